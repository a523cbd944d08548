"""What the SDKs of today can send at the top of a body: all of it is known here, so that strict servers take it too."""

from typing import Any

import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as TextParams
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from mlx_server.schemas.anthropic.requests import MessagesRequest
from mlx_server.schemas.openai import responses
from mlx_server.schemas.openai.chat import ChatRequest
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.openai.completions import CompletionRequest

IN_HEADERS = {"betas"}


@pytest.mark.parametrize(
    ("sent", "request_type", "harmless"),
    [
        (ChatParams, ChatRequest, HARMLESS),
        (TextParams, CompletionRequest, HARMLESS),
        (ResponseCreateParamsBase, responses.ResponsesRequest, responses.HARMLESS),
        (MessageCreateParamsBase, MessagesRequest, {}),
    ],
    ids=["chat", "text", "responses", "messages"],
)
def test_parameters_of_the_sdk_are_known(sent: Any, request_type: Any, harmless: dict[str, Any]) -> None:
    assert sent.__annotations__.keys() - IN_HEADERS <= {*request_type.__struct_fields__, *harmless}
