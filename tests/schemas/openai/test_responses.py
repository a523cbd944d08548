"""What clients send to `/v1/responses` and what becomes of it; what can't be served is refused by name."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    FunctionCall,
    GenerationRequest,
    Grammar,
    Message,
    Sampling,
    Template,
    Tool,
    ToolUse,
)
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import HARMLESS, Turn
from mlx_server.schemas.openai.responses_items import (
    FunctionCallItem,
    InputText,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from mlx_server.schemas.parsing.parse import parse

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"type": "function", "name": "add", "description": "Adds.", "parameters": SCHEMA, "strict": True}
MUL = {"type": "function", "name": "mul"}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'}


def turn(earlier: tuple[Item, ...] = (), **given: Any) -> Turn:
    body = json.dumps({"input": "Hello", **given}).encode()
    return Turn(parse(body, openai_responses.decoder, HARMLESS)[0], earlier)


def generation(**given: Any) -> GenerationRequest:
    return turn(**given).to_generation(99)


def messages(*items: Any, earlier: tuple[Item, ...] = (), **given: Any) -> tuple[Message, ...]:
    [prompt] = turn(earlier, input=list(items), **given).to_generation(99).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def refusal(**given: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        generation(**given)
    assert caught.value.param is not None
    assert caught.value.param in caught.value.message
    return caught.value


def test_text_is_what_a_user_says() -> None:
    [prompt] = generation(input="Hi").prompts
    assert prompt == ChatPrompt(
        (Message("user", "Hi"),), template=Template(effort_param="reasoning.effort"), param="input"
    )


def test_easy_messages_and_message_items_say_the_same() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    said = [{"type": "output_text", "text": "c", "annotations": []}]
    assert messages(
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
        {"type": "message", "role": "user", "content": parts, "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": said, "status": "completed"},
        {"role": "user", "content": "d"},
    ) == (
        Message("user", "ab"),
        Message("assistant", "c"),
        Message("user", "ab"),
        Message("assistant", "c"),
        Message("user", "d"),
    )


def test_instructions_and_the_first_system_messages_are_one() -> None:
    assert messages(
        {"role": "developer", "content": "B"},
        {"role": "system", "content": "C"},
        {"role": "user", "content": "D"},
        {"role": "developer", "content": "E"},
        instructions="A",
    ) == (Message("system", "A\n\nB\n\nC"), Message("user", "D"), Message("system", "E"))


def test_thoughts_words_and_calls_of_one_turn_are_one_message() -> None:
    thoughts = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "T"}]}
    answer = {"role": "assistant", "content": "A"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    parts = {**result, "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]}
    call = FunctionCall("c1", "add", '{"a":1}')
    assert messages(
        {"role": "user", "content": "U"},
        thoughts,
        answer,
        CALL,
        {**CALL, "call_id": "c2"},
        result,
        parts,
        thoughts,
        answer,
    ) == (
        Message("user", "U"),
        Message("assistant", "A", reasoning="T", tool_calls=(call, FunctionCall("c2", "add", '{"a":1}'))),
        Message("tool", "1", tool_call_id="c1"),
        Message("tool", "2", tool_call_id="c2"),
        Message("assistant", "A", reasoning="T"),
    )


def test_separate_answers_stay_separate() -> None:
    answer = {"role": "assistant", "content": "A"}
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert messages(answer, refused, CALL) == (
        Message("assistant", "A"),
        Message("assistant", "No.", tool_calls=(FunctionCall("c1", "add", '{"a":1}'),)),
    )


def test_summary_stands_for_thoughts_that_are_not_there() -> None:
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    assert messages({"type": "reasoning", "summary": summary}) == (Message("assistant", "", reasoning="a\n\nb"),)


def test_earlier_items_come_first_and_may_be_answered() -> None:
    earlier: tuple[Item, ...] = (
        MessageItem("msg_1", "user", [InputText("U")]),
        ReasoningItem("rs_1", [], [ReasoningText("T")]),
        MessageItem("msg_2", "assistant", [OutputText("A")]),
        FunctionCallItem("fc_1", "c1", "add", "{}"),
    )
    result = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    assert messages(result, earlier=earlier, instructions="I") == (
        Message("system", "I"),
        Message("user", "U"),
        Message("assistant", "A", reasoning="T", tool_calls=(FunctionCall("c1", "add", "{}"),)),
        Message("tool", "1", tool_call_id="c1"),
    )


def test_items_get_ids_and_keep_those_they_have() -> None:
    items = turn(input=[{"role": "user", "content": "a"}, {**CALL, "id": "mine"}, {"type": "reasoning"}]).items
    assert items[0].id.startswith("msg_")
    assert items[1].id == "mine"
    assert items[2].id.startswith("rs_")


def test_limits_and_sampling_reach_the_engine() -> None:
    asked = generation(max_output_tokens=5, temperature=0.5, top_p=0.9, top_k=7, seed=1, stop="x", thinking_budget=3)
    assert asked.max_tokens == 5
    assert asked.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=7, seed=1)
    assert (asked.limits.stop, asked.thinking_budget) == (("x",), 3)
    assert generation().max_tokens == 99


def test_logprobs_are_asked_for_by_include() -> None:
    assert generation().logprobs is None
    assert generation(top_logprobs=0).logprobs is None
    assert generation(include=["message.output_text.logprobs"]).logprobs == 0
    assert generation(include=["message.output_text.logprobs"], top_logprobs=3).logprobs == 3


def test_formats_are_grammars() -> None:
    asked = generation(text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}})
    assert asked.grammar == Grammar("json_schema", json.dumps(SCHEMA, separators=(",", ":")), "text.format.schema")
    assert generation(text={"format": {"type": "json_object"}}).grammar == Grammar(
        "json_schema", '{"type":"object"}', "text.format"
    )
    assert generation(text={"format": {"type": "text"}}).grammar is None
    assert generation(regex="a+").grammar == Grammar("regex", "a+", "regex")


def test_reasoning_effort_and_template_arguments_reach_the_template() -> None:
    [prompt] = generation(reasoning={"effort": "high"}, chat_template_kwargs={"enable_thinking": False}).prompts
    assert isinstance(prompt, ChatPrompt)
    assert (prompt.template.effort, prompt.template.arguments) == ("high", {"enable_thinking": False})


TOOL_USES: list[tuple[Any, ToolUse, list[str]]] = [
    (None, ToolUse("auto"), ["add", "mul"]),
    ("none", ToolUse("none"), ["add", "mul"]),
    ("required", ToolUse("required"), ["add", "mul"]),
    ({"type": "function", "name": "mul"}, ToolUse("named", "mul", parallel=False), ["add", "mul"]),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "mul"}]},
        ToolUse("required"),
        ["mul"],
    ),
]


@pytest.mark.parametrize(("choice", "use", "names"), TOOL_USES)
def test_tools_are_flat(choice: Any, use: ToolUse, names: list[str]) -> None:
    asked = generation(tools=[ADD, MUL], tool_choice=choice)
    [prompt] = asked.prompts
    assert isinstance(prompt, ChatPrompt)
    tools = {
        "add": Tool("add", "Adds.", SCHEMA, True, param="tools[0].parameters"),
        "mul": Tool("mul", param="tools[1].parameters"),
    }
    assert prompt.tools == tuple(tools[name] for name in names)
    assert asked.tool_use == use
    assert generation(tools=[ADD], parallel_tool_calls=False).tool_use == ToolUse("auto", parallel=False)


HARMLESSLY: list[dict[str, Any]] = [
    {"truncation": "disabled", "service_tier": "auto", "prompt_cache_retention": "in_memory", "background": None},
    {"conversation": None, "prompt": None, "n": 1, "store": False, "background": False, "max_tool_calls": 3},
    {"text": {"verbosity": "medium"}, "reasoning": {"summary": "auto", "generate_summary": None}},
    {"stream": True, "stream_options": {"include_obfuscation": False}, "user": "u"},
]


@pytest.mark.parametrize("given", HARMLESSLY)
def test_values_that_change_nothing_are_accepted(given: dict[str, Any]) -> None:
    assert generation(**given) == generation()


def test_what_is_said_of_kept_prompts_is_taken_over() -> None:
    assert generation(prompt_cache_key="k").conversation == "k"
    assert [generation(use_cache=given).use_cache for given in (None, True, False)] == [True, True, False]


BILLING = "x-anthropic-billing-header: cc_version=2.1.332.a; cch=36ee5;"


def test_billing_line_that_proxies_pass_on_never_reaches_the_prompt() -> None:
    parts = [{"type": "input_text", "text": BILLING}, {"type": "input_text", "text": "Be brief."}]
    user = {"role": "user", "content": "Hi"}
    both = generation(instructions=BILLING, input=[{"role": "developer", "content": parts}, user])
    assert both.ignored == ("instructions", "input[0].content[0]")
    assert both.prompts == generation(instructions="Be brief.", input=[user]).prompts
    alone = generation(instructions=f"{BILLING}\nBe brief.", input=[{"role": "system", "content": BILLING}, user])
    assert (alone.prompts, alone.ignored) == (both.prompts, ("input[0].content[0]",))


IDLY: list[tuple[dict[str, Any], list[str]]] = [
    ({"service_tier": "flex", "prompt_cache_retention": "24h"}, ["prompt_cache_retention", "service_tier"]),
    ({"client_metadata": {"a": "b"}, "moderation": {}, "image": {}}, ["client_metadata", "image", "moderation"]),
    ({"context_management": [{"type": "compaction"}]}, ["context_management"]),
    ({"prompt_cache_options": {"mode": "explicit"}}, ["prompt_cache_options"]),
    ({"background_options": {"completion_window": "2h"}}, ["background_options"]),
    ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
    (
        {"reasoning": {"summary": "detailed", "context": "all_turns", "mode": "pro"}},
        ["reasoning.summary", "reasoning.context", "reasoning.mode"],
    ),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, ["stream_options.include_obfuscation"]),
    ({"include": ["file_search_call.results", "reasoning.encrypted_content"]}, ["include[0]"]),
    ({"include": ["message.input_image.image_url", "computer_call_output.output.image_url"]}, []),
]


def test_field_of_a_format_or_a_part_that_nobody_knows_is_named() -> None:
    part = {"type": "input_text", "text": "Hello", "prompt_cache_breakpoint": {"mode": "explicit"}, "more": 1}
    format_ = {"format": {"type": "text", "more": 1}}
    body = {"input": [{"role": "user", "content": [part]}], "text": format_}
    assert parse(json.dumps(body).encode(), openai_responses.decoder, HARMLESS)[1] == [
        "input[0].content[0].more",
        "text.format.more",
    ]


@pytest.mark.parametrize(("given", "ignored"), IDLY)
def test_values_that_change_nothing_here_are_named(given: dict[str, Any], ignored: list[str]) -> None:
    assert generation(**given) == replace(generation(), ignored=tuple(ignored))


PICTURE = {"type": "input_image", "image_url": "https://example.com/a.png"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"truncation": "some"}, "truncation"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"n": 2}, "n"),
    ({"max_tokens": 3}, "max_tokens"),
    ({"response_format": {"type": "text"}}, "response_format"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "text", "schema": {}}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_object"}}, "regex": "a"}, "regex"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
    ({"background": True, "store": False}, "store"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [ADD, ADD]}, "tools[1].name"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tools": [ADD], "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"tools": [ADD], "tool_choice": {"type": "function", "name": "mul"}}, "tool_choice.name"),
    ({"tools": [ADD], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [MUL]}}, "tool_choice.tools"),
    ({"input": []}, "input"),
    ({"input": None}, "input"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"content": "a"}]}, "input[0].role"),
    ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
    ({"input": [{"type": "function_call", "name": "a", "arguments": ""}]}, "input[0].call_id"),
    ({"input": [CALL, {"type": "function_call_output", "call_id": "c1"}]}, "input[1].output"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].input_audio"),
    ({"input": [{"role": "system", "content": [PICTURE]}]}, "input[0].content[0]"),
    ({"input": [{"role": "assistant", "content": [PICTURE]}]}, "input[0].content[0]"),
    ({"input": [{"role": "user", "content": [{**PICTURE, "detail": "max"}]}]}, "input[0].content[0].detail"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED)
def test_what_cannot_be_served_is_refused_by_name(given: dict[str, Any], param: str) -> None:
    assert refusal(**given).param == param


def test_truncation_lets_the_oldest_go() -> None:
    for given, drops in (({"truncation": "auto"}, True), ({"truncation": "disabled"}, False), ({}, False)):
        [prompt] = generation(**given).prompts
        assert isinstance(prompt, ChatPrompt)
        assert prompt.drops_oldest is drops
