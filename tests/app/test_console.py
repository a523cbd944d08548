"""What is printed once the model answers."""

import io
import json
import shlex

import pytest
from msgspec.structs import replace
from rich.console import Console

from mlx_server.app.console import StartDisplay
from mlx_server.app.settings import ModelType
from mlx_server.schemas.messages import ModelFacts
from mlx_server.schemas.openai_chat import ChatRequest
from mlx_server.schemas.openai_completions import CompletionRequest
from mlx_server.schemas.openai_embeddings import EmbeddingsRequest
from mlx_server.schemas.scores import RerankRequest

FACTS = ModelFacts(8, 1024, 1000, 1 << 20, "bert", "a device", max_model_len=512)


@pytest.mark.parametrize(
    ("model_type", "chats", "path", "request_type"),
    [
        ("lm", True, "chat/completions", ChatRequest),
        ("vlm", True, "chat/completions", ChatRequest),
        ("lm", False, "completions", CompletionRequest),
        ("vlm", False, "completions", CompletionRequest),
        ("embeddings", True, "embeddings", EmbeddingsRequest),
        ("rerank", True, "rerank", RerankRequest),
    ],
)
def test_the_first_request_is_one_that_the_model_answers(
    model_type: ModelType, chats: bool, path: str, request_type: type
) -> None:
    console = Console(file=io.StringIO(), width=80)
    StartDisplay(console, "http://localhost:8000").of("a/model", model_type).ready(replace(FACTS, chats=chats))
    assert isinstance(console.file, io.StringIO)
    command = shlex.split(console.file.getvalue().splitlines()[-1])
    assert command[:2] == ["curl", f"http://localhost:8000/v1/{path}"]
    assert json.loads(command[-1]).keys() <= set(request_type.__struct_encode_fields__)


def test_with_several_models_the_address_is_said_once_and_requests_name_theirs() -> None:
    console = Console(file=io.StringIO(), width=80)
    display = StartDisplay(console, "http://localhost:8000", names=True)
    for name in ("a", "b/c"):
        display.of(name, "lm").ready(FACTS)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert sum("Listening on" in line for line in lines) == 1
    bodies = [json.loads(shlex.split(line)[-1]) for line in lines if "curl" in line]
    assert [body["model"] for body in bodies] == ["a", "b/c"]
    assert all(body["messages"] for body in bodies)
