"""Calls come back as the client knows its tools, whole and streamed, as the SDK's types say."""

import json
from typing import Any

import openai
import pytest
from openai.lib.streaming.responses._responses import ResponseStreamState
from support.responses import response, stream

from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_responses import ResponsesEncoder
from mlx_server.schemas.internal.messages import Finished, FinishReason, Part, Text, ToolCall
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import HARMLESS, Turn
from mlx_server.schemas.parsing.parse import parse

HEAD = Head("1", 1000, "model")
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f", "parameters": {}, "strict": False, "description": "F."},
    {"type": "namespace", "name": "mcp__x", "description": "X.", "tools": [{"type": "function", "name": "f"}]},
    {"type": "namespace", "name": "ns", "description": "N.", "tools": [{"type": "custom", "name": "edit"}]},
    {"type": "custom", "name": "edit", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": {"type": "object"}},
    {"type": "web_search", "filters": {"allowed_domains": ["a"]}, "search_context_size": "low"},
    {"type": "file_search", "vector_store_ids": ["v"], "max_num_results": 3},
    {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "1g"}},
    {"type": "mcp", "server_label": "s", "server_url": "https://a", "require_approval": "never"},
    {"type": "image_generation", "size": "auto", "quality": "low"},
    {"type": "computer_use_preview", "display_height": 1, "display_width": 2, "environment": "linux"},
]


def encoder(**given: Any) -> ResponsesEncoder:
    body = json.dumps({"input": "Hello", "tools": TOOLS, **given}).encode()
    turn = Turn(parse(body, openai_responses.decoder, HARMLESS)[0])
    return ResponsesEncoder(HEAD, turn, lambda asked: asked, store=True)


def called(name: str, arguments: str, call: int = 0) -> list[Part | Finished]:
    """A call, its arguments in pieces of three characters."""
    pieces = [arguments[at : at + 3] for at in range(0, len(arguments), 3)]
    return [ToolCall(1, 0, call, "", 1, f"call_{call}", name), *(ToolCall(1, 0, call, piece, 1) for piece in pieces)]


def finished(reason: FinishReason = "tool_calls") -> Finished:
    return Finished(1, 0, reason, 10, 4, 7, 3)


def streamed(events: list[Part | Finished], **given: Any) -> list[Any]:
    made = encoder(**given)
    return stream(made.begin() + b"".join(made.events([event]) for event in events) + made.end())


CREATE = {"type": "create_file", "path": "a", "diff": "+b"}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("f", "{}", {"type": "function_call", "name": "f", "arguments": "{}"}),
    ("mcp__x__f", "{}", {"type": "function_call", "name": "f", "namespace": "mcp__x", "arguments": "{}"}),
    ("unheard_of", "{}", {"type": "function_call", "name": "unheard_of", "arguments": "{}"}),
    ("edit", '{"input": "a\\n\\ud83d\\ude00"}', {"type": "custom_tool_call", "name": "edit", "input": "a\n\U0001f600"}),
    ("ns__edit", '{"input":"a"}', {"type": "custom_tool_call", "name": "edit", "namespace": "ns", "input": "a"}),
    ("edit", "*** Begin", {"type": "custom_tool_call", "name": "edit", "input": "*** Begin"}),
    (
        "local_shell",
        '{"command": ["ls", "-l"], "timeout_ms": 5}',
        {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls", "-l"], "env": {}, "timeout_ms": 5}},
    ),
    ("shell", '{"commands": ["ls"]}', {"type": "shell_call", "action": {"commands": ["ls"]}}),
    ("shell", '{"commands": "ls"}', {"type": "shell_call", "action": {"commands": ["ls"]}}),
    ("apply_patch", json.dumps(CREATE), {"type": "apply_patch_call", "operation": CREATE}),
    (
        "apply_patch",
        '{"type": "delete_file", "path": "a"}',
        {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
    ),
    (
        "tool_search",
        '{"query": "x"}',
        {"type": "tool_search_call", "arguments": {"query": "x"}, "execution": "client"},
    ),
    ("local_shell", '{"cmd": "ls"}', {"type": "function_call", "name": "local_shell", "arguments": '{"cmd": "ls"}'}),
    ("shell", "ls", {"type": "function_call", "name": "shell", "arguments": "ls"}),
    (
        "apply_patch",
        '{"type": "create_file", "path": "a"}',
        {"type": "function_call", "name": "apply_patch", "arguments": '{"type": "create_file", "path": "a"}'},
    ),
]


@pytest.mark.parametrize(("name", "arguments", "item"), CALLS)
def test_call_comes_back_as_its_tool_says(name: str, arguments: str, item: dict[str, Any]) -> None:
    events = [*called(name, arguments), finished()]
    [whole] = response(encoder().whole(events)).output
    told = streamed(events)
    [last] = told[-1].response.output
    [added] = [event for event in told if event.type == "response.output_item.added"]
    [done] = [event for event in told if event.type == "response.output_item.done"]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert (added.output_index, done.output_index) == (0, 0)
    assert added.item.id == done.item.id == last.id
    assert (added.item.type, added.item.status) == (item["type"], "in_progress")
    assert done.item == last
    for found in (whole, last):
        shown = found.to_dict()
        del shown["id"]
        assert shown == {**item, "call_id": "call_0", "status": "completed"}


def test_deltas_of_a_custom_tool_are_its_text() -> None:
    text = 'One "two"\nthree \N{GRINNING FACE}'
    told = streamed([*called("edit", json.dumps({"input": text})), finished()])
    kinds = [event.type.removeprefix("response.") for event in told]
    deltas = [event for event in told if event.type == "response.custom_tool_call_input.delta"]
    assert "".join(event.delta for event in deltas) == text
    assert len(deltas) > 5
    [done] = [event for event in told if event.type == "response.custom_tool_call_input.done"]
    assert (done.input, done.item_id) == (text, deltas[0].item_id)
    assert kinds[:3] == ["created", "in_progress", "output_item.added"]
    assert kinds[-3:] == ["custom_tool_call_input.done", "output_item.done", "completed"]


def test_call_that_cannot_be_read_is_told_as_functions_are() -> None:
    told = streamed([*called("shell", "ls -l"), finished()])
    assert [event.type.removeprefix("response.") for event in told[2:-1]] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert (told[2].item.arguments, told[3].delta) == ("", "ls -l")


def test_calls_follow_each_other_in_the_order_in_which_they_were_made() -> None:
    parts: list[Part | Finished] = [Text(1, 0, "Look:", 1)]
    for call, (name, arguments, _) in enumerate(CALLS):
        parts += called(name, arguments, call)
    told = streamed([*parts, finished()])
    added = [event for event in told if event.type == "response.output_item.added"]
    assert [event.output_index for event in added] == list(range(len(CALLS) + 1))
    types = ["message", *(item["type"] for *_, item in CALLS)]
    assert [item.type for item in told[-1].response.output] == types
    state = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in told:
        state.handle_event(event)
    assert state._completed_response is not None
    assert [item.type for item in state._completed_response.output] == types


CUT: list[tuple[str, str, dict[str, Any]]] = [
    ("edit", '{"input": "a\\', {"type": "custom_tool_call", "input": "a", "status": "incomplete"}),
    ("shell", '{"commands": [', {"type": "function_call", "arguments": '{"commands": [', "status": "incomplete"}),
    ("shell", '{"commands": []}', {"type": "shell_call", "status": "completed"}),
    ("apply_patch", json.dumps(CREATE), {"type": "apply_patch_call", "status": "completed"}),
]


@pytest.mark.parametrize(("name", "arguments", "item"), CUT)
def test_call_that_is_cut_off_is_told_as_far_as_it_came(name: str, arguments: str, item: dict[str, Any]) -> None:
    answer = response(encoder().whole([*called(name, arguments), finished("length")]))
    assert answer.status == "incomplete"
    [shown] = [found.to_dict() for found in answer.output]
    assert {field: shown[field] for field in item} == item


CHOICES: list[Any] = [
    "auto",
    "none",
    "required",
    {"type": "function", "name": "f"},
    {"type": "custom", "name": "edit"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]},
]


@pytest.mark.parametrize("choice", CHOICES)
def test_tools_and_choice_are_shown_as_they_were_given(choice: Any) -> None:
    shown = response(encoder(tool_choice=choice).whole([finished()])).to_dict()
    assert shown["tools"] == TOOLS
    assert shown["tool_choice"] == choice


def test_what_a_client_sends_back_is_what_the_model_wrote() -> None:
    for name, arguments, _ in CALLS:
        first = json.loads(encoder().whole([*called(name, arguments), finished()]))
        body = json.dumps({"input": first["output"], "tools": TOOLS}).encode()
        [prompt] = Turn(parse(body, openai_responses.decoder, HARMLESS)[0]).to_generation(9).prompts
        [call] = prompt.messages[0].tool_calls  # type: ignore[union-attr]
        assert (call.id, call.name) == ("call_0", name)
        assert as_read(call.arguments) == as_read(arguments)


def as_read(arguments: str) -> Any:
    """Arguments without what two ways to write them differ in."""
    try:
        given = json.loads(arguments)
    except ValueError:
        return {"input": arguments}
    return {**given, "commands": [given["commands"]]} if isinstance(given.get("commands"), str) else given
