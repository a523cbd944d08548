"""LangChain's standard tests of chat models, for its clients of three APIs; `run.py` starts them beside a server."""

from __future__ import annotations

import os

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

ROOT = os.environ["CONFORMANCE_ROOT"]
ANTHROPIC = {"model": "oracle", "base_url": ROOT, "api_key": "none", "max_retries": 0}
OPENAI = {"model": "oracle", "base_url": f"{ROOT}/v1", "api_key": "none", "max_retries": 0, "stream_usage": True}
RESPONSES = {**OPENAI, "use_responses_api": True}


class TestChatOpenAI(ChatModelIntegrationTests):
    """Chat completions."""

    chat_model_class = ChatOpenAI
    chat_model_params = OPENAI
    supports_json_mode = True
    model_override_value = "another-name"


class TestChatOpenAIResponses(TestChatOpenAI):
    """Responses."""

    chat_model_params = RESPONSES


class TestChatAnthropic(ChatModelIntegrationTests):
    """Messages."""

    chat_model_class = ChatAnthropic
    chat_model_params = ANTHROPIC
    supports_anthropic_inputs = False
    model_override_value = "another-name"
