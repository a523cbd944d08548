"""Anthropic's requests: what they become inside, and what is refused by its field."""

import json
from typing import Any

import pytest

from mlx_server.schemas import anthropic
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, FunctionCall, GenerationRequest, Grammar, Message, Tool, ToolUse
from mlx_server.schemas.parse import parse

HI = {"role": "user", "content": "hi"}
WEATHER = {"name": "weather", "description": "How it is", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def inside(**fields: Any) -> GenerationRequest:
    body = {"max_tokens": 2000, "messages": [HI], **fields}
    given, unknown = parse(json.dumps(body).encode(), anthropic.decoder, anthropic.HARMLESS)
    made = given.to_generation(1)
    assert unknown == []
    return made


def prompt_of(**fields: Any) -> ChatPrompt:
    [prompt] = inside(**fields).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt


def messages_of(*messages: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    return prompt_of(messages=list(messages), **fields).messages


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def told(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def test_plain_request_leaves_everything_open() -> None:
    request = inside()
    assert request == GenerationRequest(request.prompts, max_tokens=2000)
    assert messages_of(HI) == (Message("user", "hi"),)
    assert not prompt_of().continues_last


def test_sampling_and_limits_are_taken_over() -> None:
    request = inside(temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["a", "b"], stream=True)
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert request.limits.stop == ("a", "b")
    assert request.announce


def test_system_comes_first_as_text_or_as_blocks() -> None:
    assert messages_of(HI, system="Be brief.")[0] == Message("system", "Be brief.")
    blocks = [text("Be brief.", **CACHED), text("Be kind.")]
    assert messages_of(HI, system=blocks)[0] == Message("system", "Be brief.\n\nBe kind.")
    assert messages_of(HI, system="") == (Message("user", "hi"),)


def test_neighbours_of_one_role_are_one_turn() -> None:
    given = [HI, {"role": "user", "content": [text("a"), text("b", **CACHED)]}, said(text("c")), said(text("d"))]
    assert messages_of(*given) == (Message("user", "hi\n\nab"), Message("assistant", "c\n\nd"))


def test_last_turn_of_the_assistant_is_gone_on_with() -> None:
    assert prompt_of(messages=[HI, {"role": "assistant", "content": "Hel"}]).continues_last


def test_calls_and_results_go_together() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "?"}
    failed = {**RESULT, "tool_use_id": "toolu_2", "is_error": True, "content": [text("no "), text("city")]}
    given = [
        HI,
        said(thinking, hidden, text("Let me see."), CALL, {**CALL, "id": "toolu_2", "input": {}}),
        told(RESULT, failed, text("Well?")),
    ]
    calls = (
        FunctionCall("toolu_1", "weather", '{"city":"Paris"}'),
        FunctionCall("toolu_2", "weather", "{}"),
    )
    assert messages_of(*given) == (
        Message("user", "hi"),
        Message("assistant", "Let me see.", reasoning="hm", tool_calls=calls),
        Message("tool", "sunny", name="weather", tool_call_id="toolu_1"),
        Message("tool", "Error: no city", name="weather", tool_call_id="toolu_2"),
        Message("user", "Well?"),
    )


def test_results_may_come_in_two_messages() -> None:
    other = {**CALL, "id": "toolu_2"}
    messages = messages_of(HI, said(CALL, other), told(RESULT), told({**RESULT, "tool_use_id": "toolu_2"}))
    assert [message.tool_call_id for message in messages] == [None, None, "toolu_1", "toolu_2"]


def test_tools_and_their_choice() -> None:
    request = inside(tools=[{**WEATHER, **CACHED, "type": "custom", "strict": True}])
    assert request.prompts[0].tools == (
        Tool("weather", "How it is", {"type": "object"}, True, param="tools[0].input_schema"),
    )  # type: ignore[union-attr]
    assert request.tool_use == ToolUse()
    choices = {
        "auto": ToolUse("auto"),
        "any": ToolUse("required"),
        "none": ToolUse("none"),
    }
    for kind, expected in choices.items():
        assert inside(tools=[WEATHER], tool_choice={"type": kind}).tool_use == expected
    named = {"type": "tool", "name": "weather"}
    assert inside(tools=[WEATHER], tool_choice=named).tool_use == ToolUse("named", "weather", parallel=False)
    alone = {"type": "any", "disable_parallel_tool_use": True}
    assert inside(tools=[WEATHER], tool_choice=alone).tool_use == ToolUse("required", parallel=False)


def test_thinking_is_wanted_forbidden_or_left_to_the_model() -> None:
    enabled = inside(thinking={"type": "enabled", "budget_tokens": 1024})
    assert enabled.thinking_budget == 1024
    assert prompt_of(thinking={"type": "enabled", "budget_tokens": 1024}).template.thinking is True
    assert prompt_of(thinking={"type": "disabled"}).template.thinking is False
    assert prompt_of(thinking={"type": "adaptive"}).template.thinking is None
    assert inside(thinking={"type": "adaptive"}).thinking_budget is None
    template = prompt_of(output_config={"effort": "low"}).template
    assert (template.effort, template.effort_param) == ("low", "output_config.effort")


def test_output_format_is_a_grammar_under_both_names() -> None:
    format_ = {"type": "json_schema", "schema": {"type": "object"}}
    text_ = '{"type":"object"}'
    assert inside(output_config={"format": format_}).grammar == Grammar(
        "json_schema", text_, "output_config.format.schema"
    )
    assert inside(output_format=format_).grammar == Grammar("json_schema", text_, "output_format.schema")


def test_what_changes_nothing_is_accepted() -> None:
    keeps_all = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    request = inside(
        cache_control={"type": "ephemeral"},
        container=None,
        context_management=keeps_all,
        mcp_servers=[],
        metadata={"user_id": "u"},
        model="m",
        service_tier="standard_only",
        speed="standard",
    )
    assert request == inside(model="m")


def test_fields_that_nobody_knows_are_told() -> None:
    body = json.dumps({"max_tokens": 1, "messages": [HI], "wizardry": 1}).encode()
    assert parse(body, anthropic.decoder, anthropic.HARMLESS)[1] == ["wizardry"]
    # What only a generation needs is no part of a count.
    body = json.dumps({"max_tokens": 1, "messages": [HI]}).encode()
    assert parse(body, anthropic.count_decoder, anthropic.HARMLESS)[1] == ["max_tokens"]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
NAMELESS = {"type": "tool_use", "id": "a", "input": {}}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokens": None}, "max_tokens", "Expected `int`"),
    ({"max_tokens": 0}, "max_tokens", ">= 1"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "allowed are user, assistant, system"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    ({"messages": [told({"type": "text"})]}, "messages[0].content[0].text", "is missing"),
    ({"messages": [HI, said(IMAGE)]}, "messages[1].content[0]", "only messages of role user or tool"),
    (
        {"messages": [HI, {"role": "system", "content": [IMAGE]}]},
        "messages[1].content[0]",
        "only messages of role user",
    ),
    ({"messages": [told({"type": "image"})]}, "messages[0].content[0].source", "is missing"),
    (
        {"messages": [told({"type": "image", "source": {"type": "base64", "media_type": "image/png"}})]},
        "messages[0].content[0].source.data",
        "is missing",
    ),
    (
        {"messages": [told({"type": "image", "source": {"type": "base64", "data": "AA"}})]},
        "messages[0].content[0].source.media_type",
        "is missing",
    ),
    (
        {"messages": [told({"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": "AA"}})]},
        "messages[0].content[0].source.media_type",
        "'image/...' is needed",
    ),
    (
        {"messages": [told({"type": "image", "source": {"type": "file", "file_id": "file_1"}})]},
        "messages[0].content[0].source",
        "keeps no files",
    ),
    (
        {"messages": [told({"type": "image", "source": {"type": "ftp"}})]},
        "messages[0].content[0].source.type",
        "'base64' and 'url' are",
    ),
    (
        {"messages": [told({"type": "image", "source": {"type": "url"}})]},
        "messages[0].content[0].source.url",
        "is missing",
    ),
    ({"messages": [told({"type": "document"})]}, "messages[0].content[0].type", "allowed are 'text', 'image'"),
    ({"messages": [told(CALL)]}, "messages[0].content[0].type", "'tool_use' is not supported here"),
    ({"messages": [HI, said(RESULT)]}, "messages[1].content[0].type", "'tool_result' is not supported here"),
    ({"messages": [HI, said({"type": "thinking"})]}, "messages[1].content[0].thinking", "is missing"),
    ({"messages": [HI, said(NAMELESS)]}, "messages[1].content[0].name", "is missing"),
    ({"messages": [HI, said(CALL, CALL)]}, "messages[1].content[1].id", "stands for another call"),
    ({"messages": [told(RESULT)]}, "messages[0].content[0].tool_use_id", "has no unanswered tool_use 'toolu_1'"),
    ({"messages": [HI, said(CALL)]}, "messages", "no tool_result block follows the tool_use of 'toolu_1'"),
    ({"messages": [HI, said(CALL), HI]}, "messages[2]", "no tool_result block"),
    ({"messages": [HI, said(CALL), told(text("x"), RESULT)]}, "messages[2].content[1]", "before a turn's text"),
    (
        {"messages": [HI, said(CALL), told(IMAGE, RESULT)]},
        "messages[2].content[1]",
        "before a turn's text and pictures",
    ),
    (
        {"messages": [HI, said(CALL), told({**RESULT, "content": [{"type": "document"}]})]},
        "messages[2].content[0].content[0].type",
        "allowed are 'text', 'image'",
    ),
    ({"system": [IMAGE]}, "system[0]", "only messages of role user or tool"),
    ({"system": 5}, "system", "Expected"),
    ({"temperature": 1.1}, "temperature", "<= 1.0"),
    ({"top_k": -1}, "top_k", ">= 0"),
    ({"stop_sequences": [""]}, "stop_sequences", "1 to 1000 characters"),
    ({"stop_sequences": ["a"] * 17}, "stop_sequences", "at most 16"),
    ({"service_tier": "priority"}, "service_tier", "Invalid enum value"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "'web_search_20250305'"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "is missing"),
    ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name", "1 to 128 letters"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "defined twice"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading", "not supported"),
    ({"tool_choice": {"type": "any"}}, "tool_choice", "only allowed when `tools` are given"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name", "is missing"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name", "no function 'x'"),
    ({"tools": [WEATHER], "tool_choice": {"type": "auto", "name": "x"}}, "tool_choice.name", "needs the type 'tool'"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "is missing"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens", "less than `max_tokens`"),
    ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens", "needs the type 'enabled'"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type", "Invalid enum value"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "is missing"),
    ({"container": "c"}, "container", "not supported"),
    ({"mcp_servers": [{"name": "x"}]}, "mcp_servers", "not supported"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management", "not supported"),
    ({"speed": "fast"}, "speed", "not supported"),
]


@pytest.mark.parametrize(("fields", "param", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_refusal_names_the_field(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        inside(**fields)
    assert caught.value.param == param
    assert message in caught.value.message


def test_two_formats_are_refused() -> None:
    format_ = {"type": "json_schema", "schema": {}}
    with pytest.raises(InvalidRequest, match="older name"):
        inside(output_config={"format": format_}, output_format=format_)


def test_schema_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="and 131072 characters are allowed"):
        inside(output_format={"type": "json_schema", "schema": {"title": "x" * (1 << 18)}})
