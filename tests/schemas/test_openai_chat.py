import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from openai.types.chat.chat_completion_message_function_tool_call import ChatCompletionMessageFunctionToolCall, Function

from mlx_server.schemas import openai_chat
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, Message
from mlx_server.schemas.openai import HARMLESS
from mlx_server.schemas.parse import parse

NO_VISION = "Vision requests are not supported with text-only models. Use a VLM model type instead."


def _messages(*messages: Any) -> tuple[Message, ...]:
    body = json.dumps({"messages": messages}).encode()
    [prompt] = parse(body, openai_chat.decoder, HARMLESS)[0].to_generation(8).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def _refusal(*messages: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _messages(*messages)
    return caught.value


def test_messages_keep_order_role_content_and_name() -> None:
    assert _messages(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello", "name": "Ann"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": ""},
    ) == (
        Message("system", "Be brief."),
        Message("user", "Hello", "Ann"),
        Message("assistant", "Hi."),
        Message("user", ""),
    )


def test_a_developer_is_a_system() -> None:
    assert _messages({"role": "developer", "content": "Be brief."}) == (Message("system", "Be brief."),)


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_a_name_is_allowed_on_any_message(role: str) -> None:
    [message] = _messages({"role": role, "content": "a", "name": "Ann"})
    assert message.name == "Ann"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": ""}, {"type": "text", "text": "two"}]
    assert _messages({"role": "user", "content": parts}) == (Message("user", "one two"),)


def test_extra_keys_of_text_parts_are_harmless() -> None:
    part = {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}, "annotations": []}
    assert _messages({"role": "user", "content": [part]}) == (Message("user", "one"),)


def test_a_message_of_the_sdk_can_be_sent_back() -> None:
    answer = ChatCompletionMessage(role="assistant", content="Hi.").model_dump()
    assert None in answer.values()
    assert _messages(answer) == (Message("assistant", "Hi."),)


def test_an_assistant_message_may_be_without_content() -> None:
    assert _messages({"role": "assistant", "content": None, "tool_calls": []}) == (Message("assistant", ""),)


def test_a_tool_call_that_is_sent_back_is_refused() -> None:
    call = ChatCompletionMessageFunctionToolCall(id="1", type="function", function=Function(name="f", arguments="{}"))
    refusal = _refusal(ChatCompletionMessage(role="assistant", content=None, tool_calls=[call]).model_dump())
    assert refusal.param == "messages[0].tool_calls"
    assert refusal.message == "`messages[0].tool_calls` is not supported by this server."


def test_messages_may_not_be_empty() -> None:
    refusal = _refusal()
    assert refusal.param == "messages"
    assert "at least one message" in refusal.message


@pytest.mark.parametrize("role", ["tool", "function", "narrator", "User", ""])
def test_other_roles_are_refused(role: str) -> None:
    refusal = _refusal({"role": "user", "content": "a"}, {"role": role, "content": "a"})
    assert refusal.param == "messages[1].role"
    assert "system, developer, user, assistant" in refusal.message


@pytest.mark.parametrize("role", ["system", "developer", "user"])
@pytest.mark.parametrize("content", [{}, {"content": None}], ids=["missing", "null"])
def test_only_an_assistant_may_be_without_content(role: str, content: dict[str, None]) -> None:
    assert _refusal({"role": role, **content}).param == "messages[0].content"


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_an_image_is_refused_with_the_reference_message(kind: str) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": kind, "image_url": {"url": "data:image/png;base64,AA"}}]
    refusal = _refusal({"role": "user", "content": parts})
    assert (refusal.message, refusal.param) == (NO_VISION, "messages[0].content[1]")


@pytest.mark.parametrize("kind", ["input_audio", "file", "refusal", "Text"])
def test_other_parts_are_refused_by_name(kind: str) -> None:
    refusal = _refusal({"role": "user", "content": [{"type": kind}]})
    assert refusal.param == "messages[0].content[0].type"
    assert kind in refusal.message


def test_a_text_part_needs_its_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text"}]
    assert _refusal({"role": "user", "content": parts}).param == "messages[0].content[1].text"
