"""Anthropic's requests: what they become inside, and what is refused by its field."""

import json
from typing import Any

import pytest

from mlx_server.schemas.anthropic import requests as anthropic
from mlx_server.schemas.anthropic.conversation import NO_RESULT
from mlx_server.schemas.internal.documents import with_texts
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    NO_CALL,
    ChatPrompt,
    Document,
    FunctionCall,
    GenerationRequest,
    Grammar,
    Limits,
    Message,
    Remote,
    Tool,
    ToolUse,
)
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.internal.summary import ASKED as SUMMARY_ASKED
from mlx_server.schemas.parsing.parse import parse

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


def ignored_in(**fields: Any) -> tuple[str, ...]:
    return inside(**fields).ignored


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
    assert request == GenerationRequest(request.prompts, max_tokens=2000, budget_param="thinking")
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
    assert messages_of(HI, system=blocks)[0] == Message("system", "Be brief.\n\nBe kind.", marks=(9,))
    assert messages_of(HI, system="") == (Message("user", "hi"),)


def test_neighbours_of_one_role_are_one_turn() -> None:
    given = [HI, {"role": "user", "content": [text("a"), text("b", **CACHED)]}, said(text("c")), said(text("d"))]
    assert messages_of(*given) == (Message("user", "hi\n\nab", marks=(6,)), Message("assistant", "c\n\nd"))


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


def test_count_takes_what_messages_take_and_tells_what_is_no_part_of_it() -> None:
    fields = {"max_tokens": 1, "stream": False, "temperature": 0.5, "speed": "fast", "messages": [HI]}
    given, unknown = parse(json.dumps(fields).encode(), anthropic.count_decoder, anthropic.HARMLESS)
    assert unknown == []
    assert given.ignored(given.asked()) == ["speed", "stream", "temperature", "max_tokens"]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
NAMELESS = {"type": "tool_use", "id": "a", "input": {}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


def document(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


PDF = document({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="})


WITHOUT_EFFECT: list[tuple[dict[str, Any], list[str]]] = [
    ({"container": "c"}, ["container"]),
    ({"mcp_servers": [{"name": "x"}]}, ["mcp_servers"]),
    ({"speed": "fast", "service_tier": "priority"}, ["service_tier", "speed"]),
    ({"inference_geo": "eu", "diagnostics": {"x": 1}}, ["diagnostics", "inference_geo"]),
    ({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, []),
    (
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "bif"}]}},
        ["context_management.edits[0]"],
    ),
    ({"context_management": {"edits": [], "more": 1}}, ["context_management"]),
    ({"context_management": "much"}, ["context_management"]),
    ({"output_config": {"effort": "immense"}}, ["output_config.effort"]),
    ({"reasoning_effort": "immense"}, ["reasoning_effort"]),
    (
        {"output_config": {"effort": "max", "task_budget": {"type": "tokens", "total": 9}}},
        ["output_config.task_budget"],
    ),
    ({"thinking": {"type": "adaptive", "display": "updates"}}, ["thinking.display"]),
    ({"thinking": {"type": "adaptive", "display": 5}}, ["thinking.display"]),
    ({"thinking": {"type": "adaptive", "display": "omitted"}}, []),
    ({"thinking": {"type": "disabled", "budget_tokens": 5000}}, ["thinking.budget_tokens"]),
    ({"thinking": {"type": "between_tools"}}, ["thinking.type"]),
    ({"tools": [SEARCH, WEATHER]}, ["tools[0].web_search_20250305"]),
    ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, ["tools[0].mcp_toolset"]),
    ({"tools": [{"type": "tool_search_tool_regex", "name": "s"}]}, ["tools[0].tool_search_tool_regex"]),
    ({"tools": [{"type": "tool_search_tool_bm25", "name": "s"}]}, ["tools[0].tool_search_tool_bm25"]),
    (
        {"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "s"}]},
        ["tools[0].tool_search_tool_bm25_20251119"],
    ),
    ({"tools": [{**WEATHER, "defer_loading": True, "strict": True}]}, ["tools[0].defer_loading"]),
    ({"tools": [{**WEATHER, "allowed_callers": ["code_execution_20250825"]}]}, ["tools[0].allowed_callers"]),
    ({"tools": [{**WEATHER, "allowed_callers": ["direct"], "eager_input_streaming": True}]}, []),
    ({"tools": [WEATHER], "tool_choice": {"type": "auto", "name": "x"}}, ["tool_choice.name"]),
    ({"messages": [told({**PDF, "citations": {"enabled": True}})]}, ["messages[0].content[0].citations"]),
    ({"messages": [told({"type": "container_upload", "file_id": "f"}, text("x"))]}, ["messages[0].content[0]"]),
    ({"messages": [HI, said({"type": "fallback", "to": {}}, text("x")), HI]}, ["messages[1].content[0]"]),
    ({"system": [text("x-anthropic-billing-header: a=1;"), text("Be brief.")]}, ["system[0]"]),
    (
        {"messages": [{**HI, "clear_at": "never", "output_config": {"effort": "low"}}]},
        ["messages[0].clear_at", "messages[0].output_config"],
    ),
    ({"messages": [HI, {"role": "system", "content": "x", "clear_at": "noon"}]}, ["messages[1].clear_at"]),
    (
        {"messages": [HI, {"role": "system", "output_config": {"effort": "immense"}}]},
        ["messages[1].output_config.effort"],
    ),
]


@pytest.mark.parametrize(("fields", "paths"), WITHOUT_EFFECT, ids=lambda value: str(value)[:60])
def test_what_changes_nothing_is_served_and_named(fields: dict[str, Any], paths: list[str]) -> None:
    assert ignored_in(**fields) == tuple(paths)


def test_effort_has_two_names() -> None:
    template = prompt_of(reasoning_effort="low").template
    assert (template.effort, template.effort_param) == ("low", "reasoning_effort")
    assert prompt_of(reasoning_effort="low", output_config={"effort": "high"}).template.effort == "high"
    assert prompt_of(output_config={"effort": "immense"}).template.effort is None


def test_thinking_needs_no_budget() -> None:
    request = inside(thinking={"type": "enabled"})
    assert request.thinking_budget is None
    assert request.prompts[0].template.thinking is True  # type: ignore[union-attr]
    assert prompt_of(thinking={"type": "between_tools"}).template.thinking is None


@pytest.mark.parametrize(
    "system",
    [
        [text("x-anthropic-billing-header: cc_version=2.1.332.a; cc_entrypoint=cli;"), text("Be brief.")],
        [text("x-anthropic-billing-header: cc_version=2.1.332.b; cch=00000;\nBe brief.")],
        "x-anthropic-billing-header: cc_version=2.1.197.c;\n\nBe brief.",
        "Be brief.",
    ],
    ids=["own block", "first line", "string", "none"],
)
def test_billing_line_never_reaches_the_prompt(system: Any) -> None:
    assert messages_of(HI, system=system) == (Message("system", "Be brief."), Message("user", "hi"))


def test_places_that_clients_mark_are_known() -> None:
    calls, results = said(text("I look."), {**CALL, **CACHED}), told({**RESULT, **CACHED}, text("Well?"))
    question = told(text("a", **CACHED), {**PDF, **CACHED}, text("b"))
    given = messages_of(question, calls, results, system=[text("s", **CACHED), text("t", **CACHED)])
    assert [message.marks for message in given] == [(1, 4), (1, 26), (7,), (5,), ()]
    [document] = given[1].documents
    filled = with_texts(ChatPrompt((given[1],)), {document: "four"})
    assert isinstance(filled, ChatPrompt)
    assert filled.messages[0].marks == (1, 30)


BILLING = "x-anthropic-billing-header: cc_version=2.1.332.a; cch=36ee5;"


@pytest.mark.parametrize("content", [f"{BILLING}\nBe brief.", [text(f"{BILLING}\nBe brief.")]], ids=type)
def test_billing_line_of_a_later_system_turn_never_reaches_the_prompt(content: Any) -> None:
    assert messages_of(HI, {"role": "system", "content": content})[1] == Message("system", "Be brief.")


def test_system_turn_of_a_billing_line_alone_is_none_and_named() -> None:
    for content, path in ((BILLING, "messages[1]"), ([text(BILLING)], "messages[1].content[0]")):
        turn = {"role": "system", "content": content}
        assert messages_of(HI, turn) == (Message("user", "hi"),)
        assert ignored_in(messages=[HI, turn]) == (path,)


def test_prompt_may_speak_of_the_billing_line() -> None:
    system = "What is\nx-anthropic-billing-header: 5?"
    assert messages_of(HI, system=system)[0] == Message("system", system)


def test_developer_is_the_system() -> None:
    for content in ("Be brief.", [text("Be brief.")]):
        assert messages_of(HI, {"role": "developer", "content": content})[1] == Message("system", "Be brief.")


def test_system_may_speak_in_the_middle_and_again() -> None:
    middle = {"role": "system", "content": [text("# Agents", **CACHED)]}
    given = [HI, middle, said(text("Hello")), HI, {"role": "system", "content": "again"}]
    assert [(one.role, one.content) for one in messages_of(*given, system="a")] == [
        ("system", "a"),
        ("user", "hi"),
        ("system", "# Agents"),
        ("assistant", "Hello"),
        ("user", "hi"),
        ("system", "again"),
    ]


def from_system(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "system", "content": content, **more}


@pytest.mark.parametrize("content", ["Be brief.", [text("Be brief.")]], ids=type)
def test_system_turn_may_end_with_the_users_next(content: Any) -> None:
    cleared, kept = from_system(content, clear_at="next_user_message"), from_system(content, clear_at="never")
    so_far = [HI, cleared, said(text("Hello"))]
    assert [one.role for one in messages_of(*so_far)] == ["user", "system", "assistant"]
    later = messages_of(*so_far, HI, cleared, said(text("Hello")))
    assert [one.role for one in later] == ["user", "assistant", "user", "system", "assistant"]
    assert [one.role for one in messages_of(HI, kept, said(text("Hello")), HI)][1] == "system"


def test_system_turn_may_only_set_the_effort() -> None:
    given = [{"role": "system", "output_config": {"effort": "low"}}, HI]
    assert messages_of(*given) == (Message("user", "hi"),)
    template = prompt_of(messages=given, output_config={"effort": "high"}).template
    assert (template.effort, template.effort_param) == ("low", "messages[0].output_config.effort")
    given += [from_system([], output_config={"effort": "max"}), from_system("", output_config={"effort": None})]
    assert messages_of(*given) == (Message("user", "hi"),)
    assert prompt_of(messages=given).template.effort == "max"
    assert messages_of(HI, from_system("Be brief.", output_config={}))[1] == Message("system", "Be brief.")


def test_tools_that_come_and_go_are_told_in_place() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "weather"}}
    defined = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": "time"}}}
    removed = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "weather"}}
    said_ = messages_of(HI, {"role": "system", "content": [added, defined, removed]})[1].content
    assert said_.splitlines() == [
        "The tool weather can be used from here on.",
        "The tool time can be used from here on.",
        '{"name":"time"}',
        "The tool weather can't be used any more.",
    ]


ANSWERED = Message("tool", "sunny", name="weather", tool_call_id="toolu_1")
UNANSWERED = Message("tool", NO_RESULT, name="weather", tool_call_id="toolu_1")
CALLED = Message("assistant", "", tool_calls=(FunctionCall("toolu_1", "weather", '{"city":"Paris"}'),))
ASKED = Message("user", "hi")
EMPTY = {"role": "assistant", "content": " \n"}

BROKEN: list[tuple[list[dict[str, Any]], list[Message]]] = [
    ([HI, said(CALL), told(text("Go on."), RESULT)], [ASKED, CALLED, ANSWERED, Message("user", "Go on.")]),
    ([HI, said(CALL), told(text("Go on.")), told(RESULT)], [ASKED, CALLED, ANSWERED, Message("user", "Go on.")]),
    ([HI, said(CALL), told(text("Go on."))], [ASKED, CALLED, UNANSWERED, Message("user", "Go on.")]),
    ([HI, said(CALL)], [ASKED, CALLED, UNANSWERED]),
    ([HI, said(CALL), HI, said(text("x")), HI], [ASKED, CALLED, UNANSWERED, ASKED, Message("assistant", "x"), ASKED]),
    ([told(RESULT)], [Message("user", f"{NO_CALL}\nsunny\n")]),
    ([HI, said(CALL), told(RESULT, RESULT)], [ASKED, CALLED, ANSWERED, Message("user", f"{NO_CALL}\nsunny\n")]),
    ([HI, EMPTY], [ASKED]),
    ([HI, said()], [ASKED]),
    ([HI, said(text(""), CALL), told(text(""), RESULT)], [ASKED, CALLED, ANSWERED]),
]


@pytest.mark.parametrize(("given", "expected"), BROKEN, ids=lambda value: str(value)[:60])
def test_session_that_was_broken_off_goes_on(given: list[dict[str, Any]], expected: list[Message]) -> None:
    made = prompt_of(messages=given)
    assert list(made.messages) == expected
    assert not made.continues_last


def test_calls_of_neighbouring_turns_are_answered_together() -> None:
    other = {**CALL, "id": "toolu_2"}
    answers = told({**RESULT, "tool_use_id": "toolu_2"}, RESULT)
    _, calls, *results = messages_of(HI, said(CALL), said(other), answers)
    assert [call.id for call in calls.tool_calls] == ["toolu_1", "toolu_2"]
    assert [(one.role, one.tool_call_id) for one in results] == [("tool", "toolu_2"), ("tool", "toolu_1")]


def test_thoughts_that_were_not_shown_come_back_sealed() -> None:
    hidden = {"type": "thinking", "thinking": "", "signature": seal("hm")}
    redacted = {"type": "redacted_thinking", "data": seal(", well")}
    assert messages_of(HI, said(hidden, redacted, text("x")))[1].reasoning == "hm, well"


@pytest.mark.parametrize("signature", ["x", "mlx1:%", "mlx1:/w==", ""])
def test_signature_of_another_server_says_nothing(signature: str) -> None:
    shown = {"type": "thinking", "thinking": "hm", "signature": signature}
    assert messages_of(HI, said(shown, text("x")))[1].reasoning == "hm"
    assert messages_of(HI, said({**shown, "thinking": ""}, text("x")))[1].reasoning is None
    assert messages_of(HI, said({"type": "redacted_thinking", "data": signature}, text("x")))[1].reasoning is None


FOUND = {"type": "web_search_result", "title": "MLX", "url": "https://x.io", "encrypted_content": "?", "page_age": "1d"}
PAGE = {"type": "web_fetch_result", "url": "https://x.io", "content": document({"type": "text", "data": "Hello"})}
RAN = {"type": "code_execution_result", "stdout": "2\n", "stderr": "", "return_code": 0, "content": []}
TOOLS_FOUND = {
    "type": "tool_search_tool_search_result",
    "tool_references": [{"type": "tool_reference", "tool_name": "weather"}],
}
OWN_RESULTS: list[tuple[str, Any, str]] = [
    ("web_search_tool_result", [FOUND], '{"title":"MLX","url":"https://x.io"}\n'),
    (
        "web_search_tool_result",
        {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
        '{"error_code":"max_uses_exceeded"}\n',
    ),
    ("web_fetch_tool_result", PAGE, '{"url":"https://x.io"}\n<document>\nHello\n</document>\n'),
    ("code_execution_tool_result", RAN, '{"stdout":"2\\n","return_code":0}\n'),
    ("tool_search_tool_result", TOOLS_FOUND, "The tool weather can be used.\n"),
    ("mcp_tool_result", [text("sunny")], "sunny"),
    ("mcp_tool_result", "sunny", "sunny\n"),
    ("advisor_tool_result", {"type": "advisor_result", "text": "Rest."}, "Rest.\n"),
]


@pytest.mark.parametrize(("kind", "content", "read"), OWN_RESULTS, ids=lambda value: str(value)[:40])
def test_what_own_tools_found_is_read(kind: str, content: Any, read: str) -> None:
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "finder", "input": {"q": "x"}}
    found = {"type": kind, "tool_use_id": "srvtoolu_1", "content": content}
    assert messages_of(HI, said(text("I look."), call, found, text("So.")), HI) == (
        ASKED,
        Message("assistant", "I look.", tool_calls=(FunctionCall("srvtoolu_1", "finder", '{"q":"x"}'),)),
        Message("tool", read, name="finder", tool_call_id="srvtoolu_1"),
        Message("assistant", "So."),
        ASKED,
    )
    assert ignored_in(messages=[HI, said(found, text("So.")), HI]) == ("messages[1].content[0]",)


def test_summary_stands_for_what_was_said_before() -> None:
    summary = {"type": "compaction", "content": "They greeted."}
    given = [HI, said(CALL), told(RESULT), said(summary, text("So.")), HI]
    assert messages_of(*given, system="s") == (
        Message("system", "s"),
        Message("user", "They greeted."),
        Message("assistant", "So."),
        ASKED,
    )
    assert messages_of(HI, said(summary), HI) == (Message("user", "They greeted.\n\nhi"),)
    failed = {"type": "compaction", "content": None}
    assert ignored_in(messages=[HI, said(failed, text("So.")), HI]) == ("messages[1].content[0]",)


def test_compaction_asks_for_a_summary_in_an_answers_place() -> None:
    shape: dict[str, Any] = {
        "tools": [WEATHER],
        "tool_choice": {"type": "any"},
        "stop_sequences": ["a"],
        "output_config": {"format": {"type": "json_schema", "schema": {}}},
    }
    request = inside(compaction={"type": "summarize"}, **shape)
    [prompt] = request.prompts
    assert isinstance(prompt, ChatPrompt)
    assert (prompt.messages, prompt.drops_oldest) == ((ASKED, Message("user", SUMMARY_ASKED)), True)
    assert (request.tool_use, request.grammar, request.limits) == (ToolUse("none"), None, Limits())
    assert request.ignored == ("stop_sequences", "tool_choice", "output_config.format")
    for instructions, asked in (("Be brief.", "Be brief."), (" ", SUMMARY_ASKED)):
        config = {"type": "summarize", "instructions": instructions}
        assert messages_of(HI, compaction=config)[-1] == Message("user", asked)
    begun = prompt_of(messages=[HI, {"role": "assistant", "content": "Hel"}], compaction={"type": "summarize"})
    assert not begun.continues_last


def test_count_names_what_only_an_answer_depends_on() -> None:
    body = {"messages": [HI], "compaction": {"type": "summarize"}, "thread": {"type": "create"}, "stream": True}
    given, _ = parse(json.dumps(body).encode(), anthropic.count_decoder, anthropic.HARMLESS)
    assert given.ignored(given.asked()) == ["stream", "compaction", "thread"]


def test_prompt_may_only_be_read() -> None:
    shape: dict[str, Any] = {
        "stop_sequences": ["a"],
        "output_format": {"type": "json_schema", "schema": {}},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    request = inside(max_tokens=0, compaction={"type": "summarize"}, **shape)
    assert (request.max_tokens, request.limits, request.grammar, request.thinking_budget) == (1, Limits(), None, None)
    assert request.prompts == inside(**shape).prompts
    assert request.ignored == ("compaction",)


OWN_TOOLS: list[tuple[str, str, set[str]]] = [
    ("bash_20250124", "bash", {"command", "restart"}),
    (
        "text_editor_20250728",
        "str_replace_based_edit_tool",
        {"command", "path", "file_text", "old_str", "new_str", "insert_line", "insert_text", "view_range"},
    ),
    (
        "memory_20250818",
        "memory",
        {"command", "path", "file_text", "old_str", "new_str", "insert_line", "insert_text", "view_range"}
        | {"old_path", "new_path"},
    ),
    ("computer_20241022", "computer", {"action", "text", "coordinate", "start_coordinate"}),
]


@pytest.mark.parametrize(("type_", "name", "takes"), OWN_TOOLS)
def test_tools_of_anthropic_that_clients_run_are_functions(type_: str, name: str, takes: set[str]) -> None:
    [tool] = prompt_of(tools=[{"type": type_, "name": name}]).tools
    assert tool.name == name
    assert tool.description
    assert tool.parameters is not None
    assert tool.parameters["properties"].keys() == takes
    assert set(tool.parameters["required"]) <= takes
    named = inside(tools=[{"type": type_, "name": name}], tool_choice={"type": "tool", "name": name})
    assert named.tool_use == ToolUse("named", name, parallel=False)


def test_computer_is_told_its_screen_and_what_its_version_can_do() -> None:
    given = {"type": "computer_20251124", "name": "computer", "display_width_px": 800, "display_height_px": 600}
    [tool] = prompt_of(tools=[{**given, "enable_zoom": True}]).tools
    assert "800 x 600" in (tool.description or "")
    assert {"zoom", "scroll", "screenshot"} <= set(tool.parameters["properties"]["action"]["enum"])  # type: ignore[index]
    [older] = prompt_of(tools=[given]).tools
    assert "zoom" not in older.parameters["properties"]["action"]["enum"]  # type: ignore[index]


def test_examples_of_input_are_part_of_the_description() -> None:
    [tool] = prompt_of(tools=[{**WEATHER, "input_examples": [{"city": "Paris"}]}]).tools
    assert tool.description == 'How it is\n\nExamples of its input:\n{"city":"Paris"}'


SHOWN: list[tuple[dict[str, Any], str]] = [
    (document({"type": "text", "media_type": "text/plain", "data": "Hello"}), "<document>\nHello\n</document>\n"),
    (
        document({"type": "text", "data": "x"}, title='A "b"', context="old"),
        '<document title="A &quot;b&quot;" context="old">\nx\n</document>\n',
    ),
    (document({"type": "content", "content": "x"}), "<document>\nx\n</document>\n"),
    (document({"type": "content", "content": [text("x"), text("y")]}), "<document>\nxy\n</document>\n"),
    (
        {"type": "search_result", "source": "https://x.io", "title": "MLX", "content": [text("fast")]},
        '<search_result title="MLX" source="https://x.io">\nfast\n</search_result>\n',
    ),
]


@pytest.mark.parametrize(("block", "read"), SHOWN, ids=lambda value: str(value)[:60])
def test_document_with_text_is_read_where_it_stands(block: dict[str, Any], read: str) -> None:
    assert messages_of(told(text("Look:"), block, text("Well?"))) == (Message("user", f"Look:\n{read}Well?"),)
    assert messages_of(HI, said(CALL), told({**RESULT, "content": [block]}))[2].content == read


def test_file_of_a_document_has_its_place() -> None:
    by_url = document({"type": "url", "url": " https://x.io/a.pdf"})
    picture = {"type": "image", "source": {"type": "url", "url": "https://x.io/a.png"}}
    [message] = messages_of(told(text("Look:"), PDF), told(picture, by_url))
    assert message.content == "Look:\n<document>\n\n</document>\n\n\n<document>\n\n</document>\n"
    first, second = message.documents
    assert first == Document(Remote("data:application/pdf;base64,JVBERi0="), 17, "messages[0].content[1]")
    assert second == Document(Remote("https://x.io/a.pdf"), 43, "messages[1].content[1]")
    filled = with_texts(ChatPrompt((message,)), {first: "one", second: "two"})
    assert isinstance(filled, ChatPrompt)
    [told_] = filled.messages
    assert told_.content == "Look:\n<document>\none\n</document>\n\n\n<document>\ntwo\n</document>\n"
    assert told_.documents == ()
    assert [media.at for media in told_.media] == [told_.content.index("<document>", 20)]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokens": None}, "max_tokens", "Expected `int`"),
    ({"max_tokens": -1}, "max_tokens", ">= 0"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "allowed are user, assistant, system"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    ({"messages": [HI, {"role": "assistant", "content": None}]}, "messages[1].content", "is missing"),
    ({"messages": [HI, {"role": "system", "output_config": {}}]}, "messages[1].content", "is missing"),
    ({"messages": [{"role": "system", "output_config": {"effort": "low"}}]}, "messages", "nothing but an empty turn"),
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
        {"messages": [told({"type": "image", "source": {"type": "ftp"}})]},
        "messages[0].content[0].source.type",
        "'base64' and 'url' are",
    ),
    (
        {"messages": [told({"type": "image", "source": {"type": "url"}})]},
        "messages[0].content[0].source.url",
        "is missing",
    ),
    ({"messages": [told({"type": "document"})]}, "messages[0].content[0].source", "is missing"),
    (
        {"messages": [told({"type": "hologram"})]},
        "messages[0].content[0].type",
        "allowed are 'text', 'image', 'document'",
    ),
    ({"messages": [HI, {"role": "system", "content": [PDF]}]}, "messages[1].content[0].type", "allowed are 'text'"),
    (
        {"messages": [told(document({"type": "base64", "data": "AA"}))]},
        "messages[0].content[0].source.media_type",
        "is missing",
    ),
    (
        {"messages": [told(document({"type": "ftp"}))]},
        "messages[0].content[0].source.type",
        "allowed are base64, text, url, content, file",
    ),
    (
        {"messages": [told(document({"type": "content", "content": [CALL]}))]},
        "messages[0].content[0].source.content[0].type",
        "'tool_use' is not supported here",
    ),
    ({"messages": [{"role": "assistant", "content": " \n"}]}, "messages", "nothing but an empty turn"),
    ({"messages": [told(CALL)]}, "messages[0].content[0].type", "'tool_use' is not supported here"),
    ({"messages": [HI, said(RESULT)]}, "messages[1].content[0].type", "'tool_result' is not supported here"),
    ({"messages": [HI, said({"type": "thinking"})]}, "messages[1].content[0].thinking", "is missing"),
    ({"messages": [HI, said(NAMELESS)]}, "messages[1].content[0].name", "is missing"),
    ({"messages": [HI, said(CALL, CALL)]}, "messages[1].content[1].id", "stands for another call"),
    (
        {"messages": [HI, said(CALL), told({**RESULT, "content": [{"type": "hologram"}]})]},
        "messages[2].content[0].content[0].type",
        "allowed are 'text', 'image', 'document'",
    ),
    ({"messages": [told({**RESULT, "tool_use_id": None})]}, "messages[0].content[0].tool_use_id", "is missing"),
    ({"system": [IMAGE]}, "system[0]", "only messages of role user or tool"),
    ({"system": 5}, "system", "Expected"),
    ({"temperature": 1.1}, "temperature", "<= 1.0"),
    ({"top_k": -1}, "top_k", ">= 0"),
    ({"stop_sequences": [""]}, "stop_sequences", "1 to 1000 characters"),
    ({"stop_sequences": ["a"] * 17}, "stop_sequences", "at most 16"),
    ({"tools": [{"type": "sorcery", "name": "s"}]}, "tools[0].type", "'sorcery' is not supported"),
    ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice", "has none of the `tools`"),
    (
        {"tools": [SEARCH, WEATHER], "tool_choice": {"type": "tool", "name": "web_search"}},
        "tool_choice.name",
        "a tool that this server does not have",
    ),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "is missing"),
    ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name", "1 to 128 letters"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", "defined twice"),
    ({"tool_choice": {"type": "any"}}, "tool_choice", "only allowed when `tools` are given"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name", "is missing"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name", "no function 'x'"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens", "less than `max_tokens`"),
    ({"thinking": {"type": "sometimes"}}, "thinking.type", "Invalid enum value"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "is missing"),
    ({"compaction": {"type": "later"}}, "compaction.type", "Invalid enum value"),
    ({"thread": {"type": "create"}}, "thread", "send all of it"),
    ({"thread": {"type": "continue", "previous_message_id": "msg_1"}, "messages": []}, "thread", "send all of it"),
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
