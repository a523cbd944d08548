import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from openai.types.chat.chat_completion_message_custom_tool_call import ChatCompletionMessageCustomToolCall, Custom
from openai.types.chat.chat_completion_message_function_tool_call import ChatCompletionMessageFunctionToolCall, Function

from mlx_server.schemas.internal.documents import filled
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    NO_CALL,
    ChatPrompt,
    Draft,
    FunctionCall,
    GenerationRequest,
    Grammar,
    Limits,
    Message,
    Remote,
    Template,
)
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.parse import parse


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


BILLING = "x-anthropic-billing-header: cc_version=2.1.332.a; cch=36ee5;"
SENT = [
    (f"{BILLING}\nBe brief.", []),
    ([{"type": "text", "text": BILLING}, {"type": "text", "text": "Be brief."}], ["messages[0].content[0]"]),
]


@pytest.mark.parametrize(("content", "ignored"), SENT, ids=["string", "parts"])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_billing_line_that_proxies_pass_on_never_reaches_the_prompt(
    role: str, content: Any, ignored: list[str]
) -> None:
    body = {"messages": [{"role": role, "content": content}, {"role": "user", "content": BILLING}]}
    request = parse(json.dumps(body).encode(), openai_chat.decoder, HARMLESS)[0].to_generation(8)
    [prompt] = request.prompts
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages == (Message("system", "Be brief."), Message("user", BILLING))
    assert request.ignored == tuple(ignored)


def test_a_system_message_of_a_billing_line_alone_is_none() -> None:
    user, empty = {"role": "user", "content": "Hi"}, {"role": "system", "content": ""}
    assert _messages({"role": "system", "content": BILLING}, user) == (Message("user", "Hi"),)
    assert _messages(empty, user) == (Message("system", ""), Message("user", "Hi"))


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


def test_a_conversation_with_tool_calls_can_be_sent_back() -> None:
    calls = [
        ChatCompletionMessageFunctionToolCall(id=id_, type="function", function=Function(name="f", arguments=arguments))
        for id_, arguments in (("c1", '{"a": 1}'), ("c2", "not JSON"))
    ]
    custom = ChatCompletionMessageCustomToolCall(id="c3", type="custom", custom=Custom(name="g", input='a "b"'))
    answer = ChatCompletionMessage(role="assistant", content=None, tool_calls=[*calls, custom]).model_dump()
    results = [{"role": "tool", "tool_call_id": id_, "content": id_} for id_ in ("c2", "c1")]
    called = ("c1", "f", '{"a": 1}'), ("c2", "f", "not JSON"), ("c3", "g", r'{"input":"a \"b\""}')
    assert _messages({"role": "user", "content": "a"}, answer, *results) == (
        Message("user", "a"),
        Message("assistant", "", tool_calls=tuple(FunctionCall(*call) for call in called)),
        Message("tool", "c2", tool_call_id="c2"),
        Message("tool", "c1", tool_call_id="c1"),
    )


def test_results_find_their_calls_or_are_told_by_the_user() -> None:
    """Some clients name no calls, others cut off the beginning of a conversation."""
    functions = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ("c1", "c2")]
    called = {"role": "assistant", "content": None, "tool_calls": functions}
    file = {"type": "file", "file": {"file_data": "YQ==", "filename": "a.txt"}}
    cut = {"role": "tool", "tool_call_id": "c0", "content": [{"type": "text", "text": "zero"}, file]}
    results: list[Any] = [{"role": "tool", "content": text} for text in ("one", "two", "three")]
    lost, _, first, second, more = _messages(cut, called, *results)
    assert (first, second) == (Message("tool", "one", tool_call_id="c1"), Message("tool", "two", tool_call_id="c2"))
    assert more == Message("user", f"{NO_CALL}\nthree")
    [document] = lost.documents
    assert (lost.role, lost.tool_call_id) == ("user", None)
    told = filled(lost, {document: "T"}).content
    assert told == f'{NO_CALL}\nzero\n<document title="a.txt">\nT\n</document>\n'


def test_result_without_content_is_empty() -> None:
    for nothing in ({}, {"content": None}):
        result = {"role": "tool", "tool_call_id": "c1", **nothing}
        assert _messages({"role": "assistant", **CALLS}, result)[1] == Message("tool", "", tool_call_id="c1")
        old = {"role": "function", "name": "f", **nothing}
        assert _messages({"role": "user", "content": "a"}, old)[1] == Message("tool", "", name="f")


def test_files_are_documents_in_their_places() -> None:
    url = "data:application/pdf;base64,YQ=="
    file = {"type": "file", "file": {"file_data": url, "filename": "a.pdf"}}
    for role in ("user", "system"):
        [message] = _messages({"role": role, "content": [{"type": "text", "text": "Read"}, file]})
        [document] = message.documents
        assert (document.source, document.param) == (Remote(url), "messages[0].content[1].file.file_data")
        assert filled(message, {document: "T"}).content == 'Read\n<document title="a.pdf">\nT\n</document>\n'


FILE = {"file_data": "YQ=="}


@pytest.mark.parametrize(
    ("role", "part", "field"),
    [
        ("user", {"type": "file"}, ".file"),
        ("user", {"type": "file", "file": {}}, ".file.file_data"),
        ("user", {"type": "text", "text": "a", "file": FILE}, ".file"),
        ("user", {"type": "file", "file": FILE, "text": "a"}, ".text"),
        ("assistant", {"type": "file", "file": FILE}, ""),
    ],
)
def test_file_that_is_not_there_is_refused_by_name(role: str, part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _messages({"role": role, "content": [part]})
    assert caught.value.param == f"messages[0].content[0]{field}"


def test_a_deprecated_function_call_can_be_sent_back() -> None:
    assert _messages(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
    ) == (Message("assistant", "", tool_calls=(FunctionCall("", "f", "{}"),)), Message("tool", "2", "f"))


def test_what_was_said_is_text_by_the_names_of_responses_too() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}]
    assert _messages({"role": "user", "content": parts}) == (Message("user", "ab"),)


def test_refusals_and_thoughts_among_an_answers_parts_are_read() -> None:
    parts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "refusal", "refusal": "No. "},
        {"type": "text", "text": "Sorry."},
    ]
    assert _messages({"role": "assistant", "content": parts}) == (Message("assistant", "No. Sorry.", reasoning="Hm."),)
    for part in parts[:2]:
        assert _refusal({"role": "user", "content": [part]}).param == "messages[0].content[0].type"
    assert _refusal({"role": "assistant", "content": [{"type": "refusal"}]}).param == "messages[0].content[0].refusal"


def test_a_call_without_a_type_is_a_functions() -> None:
    [message] = _messages(
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    )
    assert message.tool_calls == (FunctionCall("1", "f", "{}"),)


def test_reasoning_is_kept_under_either_name() -> None:
    for name in ("reasoning", "reasoning_content"):
        assert _messages({"role": "assistant", "content": "4", name: "2 + 2"}) == (
            Message("assistant", "4", reasoning="2 + 2"),
        )


CALLS = {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user"}, "content"),
        ({"role": "user", "content": "a", "tool_call_id": "c1"}, "tool_call_id"),
        ({"role": "user", "content": "a", **CALLS}, "tool_calls"),
        ({"role": "tool", "content": "a", "tool_call_id": "c1", **CALLS}, "tool_calls"),
        ({"role": "system", "content": "a", "function_call": {"name": "f", "arguments": ""}}, "function_call"),
        ({"role": "assistant", "function_call": {"arguments": ""}}, "function_call.name"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "function_call.arguments"),
        ({"role": "function", "content": "a"}, "name"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]}, "tool_calls[0].function"),
        ({"role": "assistant", "tool_calls": [{**CALLS["tool_calls"][0], "type": "custom"}]}, "tool_calls[0].custom"),
        ({"role": "assistant", "tool_calls": [{**CALLS["tool_calls"][0], "type": "odd"}]}, "tool_calls[0].type"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {"input": ""}}]},
            "tool_calls[0].custom.name",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"arguments": ""}}]},
            "tool_calls[0].function.name",
        ),
        ({"role": "assistant", "content": "a", "audio": {"id": "audio_1"}}, "audio"),
    ],
    ids=str,
)
def test_a_turn_that_does_not_fit_is_refused_by_name(message: dict[str, Any], field: str) -> None:
    refusal = _refusal({"role": "assistant", **CALLS}, message)
    assert refusal.param == f"messages[1].{field}"
    assert f"`messages[1].{field}`" in refusal.message


def test_messages_may_not_be_empty() -> None:
    refusal = _refusal()
    assert refusal.param == "messages"
    assert "at least one message" in refusal.message


@pytest.mark.parametrize("role", ["narrator", "User", "", "system "])
def test_other_roles_are_refused(role: str) -> None:
    refusal = _refusal({"role": "user", "content": "a"}, {"role": role, "content": "a"})
    assert refusal.param == "messages[1].role"
    assert "system, developer, user, assistant" in refusal.message


@pytest.mark.parametrize("role", ["system", "developer", "user"])
@pytest.mark.parametrize("content", [{}, {"content": None}], ids=["missing", "null"])
def test_only_an_assistant_may_be_without_content(role: str, content: dict[str, None]) -> None:
    assert _refusal({"role": role, **content}).param == "messages[0].content"


@pytest.mark.parametrize("kind", ["input_file", "refusal", "Text", ""])
def test_other_parts_are_refused_by_name(kind: str) -> None:
    refusal = _refusal({"role": "user", "content": [{"type": kind}]})
    assert refusal.param == "messages[0].content[0].type"
    assert kind in refusal.message


def test_a_text_part_needs_its_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text"}]
    assert _refusal({"role": "user", "content": parts}).param == "messages[0].content[1].text"


def _generation(**fields: Any) -> GenerationRequest:
    body = json.dumps({"messages": [{"role": "user", "content": "a"}], **fields}).encode()
    return parse(body, openai_chat.decoder, HARMLESS)[0].to_generation(8)


@pytest.mark.parametrize(
    ("fields", "alternatives"),
    [
        ({}, None),
        ({"logprobs": None}, None),
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": None}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": 0}, 0),
        ({"logprobs": 5}, 5),
        ({"logprobs": 5, "top_logprobs": 3}, 3),
    ],
    ids=str,
)
def test_logprobs_are_a_switch_or_a_number(fields: dict[str, Any], alternatives: int | None) -> None:
    assert _generation(**fields).logprobs == alternatives


def _template(**fields: Any) -> Template:
    [prompt] = _generation(**fields).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt.template


@pytest.mark.parametrize(
    ("fields", "template"),
    [
        ({}, Template()),
        ({"chat_template": "{{ messages }}"}, Template("{{ messages }}")),
        ({"role_mapping": {"user": "U: "}}, Template(roles={"user": "U: "})),
        ({"use_default_chat_template": False}, Template(use_default=False)),
        ({"chat_template_args": {"a": 1}}, Template(arguments={"a": 1})),
        ({"chat_template_kwargs": {"a": [None]}}, Template(arguments={"a": [None]})),
        (
            {"chat_template_args": {"a": 1, "b": 1}, "chat_template_kwargs": {"b": 2}},
            Template(arguments={"a": 1, "b": 2}),
        ),
        *(({"reasoning_effort": e}, Template(effort=e)) for e in ("none", "minimal", "low", "medium", "high", "max")),
    ],
    ids=str,
)
def test_template_is_the_models_or_the_clients(fields: dict[str, Any], template: Template) -> None:
    assert _template(**fields) == template


def test_what_is_said_of_kept_prompts_is_taken_over() -> None:
    assert _generation(prompt_cache_key="k").conversation == "k"
    assert _generation(prompt_cache_key="k", conversation_id="c").conversation == "c"
    usual = {"prompt_cache_options": {"mode": "implicit"}, "prompt_cache_retention": "in_memory"}
    assert _generation(**usual) == _generation()
    other = {"prompt_cache_options": {"mode": "explicit"}, "prompt_cache_retention": "24h"}
    assert _generation(**other).ignored == ("prompt_cache_options", "prompt_cache_retention")


def test_last_message_may_be_continued() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for wanted, expected in ((True, True), (False, False), (None, False)):
        [prompt] = _generation(messages=messages, continue_final_message=wanted).prompts
        assert isinstance(prompt, ChatPrompt)
        assert prompt.continues_last is expected


def test_other_fields_reach_the_request() -> None:
    asked = {"n": 3, "thinking_budget": 0, "adapters": "/a", "draft_model": "small", "num_draft_tokens": 4}
    generation = _generation(**asked, regex="a+")
    assert (generation.n, generation.rows, generation.thinking_budget) == (3, 3, 0)
    assert (generation.adapter, generation.draft) == ("/a", Draft("small", 4))
    assert generation.grammar == Grammar("regex", "a+", "regex")
    assert _generation(num_draft_tokens=2).draft == Draft(None, 2)
    limits = {"stop_token_ids": [3], "min_tokens": 2, "ignore_eos": True, "skip_special_tokens": False}
    asked = {**limits, "include_stop_str_in_output": True, "stop": "x"}
    assert _generation(**asked).limits == Limits(("x",), True, (3,), 2, True, False)


TEXT = "x" * (openai_chat.MAX_TEMPLATE_CHARS + 1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"thinking_budget": -1}, "thinking_budget"),
        ({"reasoning_effort": 3}, "reasoning_effort"),
        ({"chat_template": ""}, "chat_template"),
        ({"chat_template": TEXT}, "chat_template"),
        ({"chat_template": "a", "role_mapping": {}}, "role_mapping"),
        ({"chat_template_args": []}, "chat_template_args"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"adapters": ""}, "adapters"),
        ({"num_draft_tokens": 0}, "num_draft_tokens"),
        ({"num_draft_tokens": 65}, "num_draft_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 2, "regex": "a"}, "min_tokens"),
        ({"ignore_eos": True, "response_format": {"type": "json_object"}}, "ignore_eos"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [1] * 17}, "stop_token_ids"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_values_out_of_range_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _generation(**fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
