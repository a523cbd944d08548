"""Function calls over HTTP from a real model that was never trained for them."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.running.clients import sdk
from support.running.servers import Server

pytestmark = pytest.mark.model

MESSAGES: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
CLOCK = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
SCHEMAS = {"get_weather": WEATHER, "get_time": CLOCK}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": f"It can {name}.", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
NAMED: Any = {"type": "function", "function": {"name": "get_time"}}


def _ask(server: Server, **more: Any) -> Any:
    with sdk(server, timeout=300) as client:
        asked = {"model": "any", "messages": MESSAGES, "tools": TOOLS, "max_tokens": 60, "temperature": 0}
        answer = client.chat.completions.create(**{**asked, **more})
        return list(answer) if more.get("stream") else answer


def _check(call: Any) -> None:
    """The call parses, and its arguments are what the function takes."""
    assert call.type == "function"
    assert call.id.startswith("call_")
    Draft202012Validator(SCHEMAS[call.function.name]).validate(json.loads(call.function.arguments))


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_always_fits_its_function(smollm2_server: Server, seed: int) -> None:
    how = {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 1.0, "seed": seed}
    [choice] = _ask(smollm2_server, **how).choices
    [call] = choice.message.tool_calls
    _check(call)
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)


def test_the_named_function_is_called(smollm2_server: Server) -> None:
    [choice] = _ask(smollm2_server, tool_choice=NAMED).choices
    [call] = choice.message.tool_calls
    _check(call)
    assert (call.function.name, choice.finish_reason) == ("get_time", "tool_calls")


def test_several_calls_have_ids_of_their_own(smollm2_server: Server) -> None:
    bias = {"tool_choice": "required", "parallel_tool_calls": True, "max_tokens": 200, "seed": 2, "temperature": 1.2}
    [choice] = _ask(smollm2_server, **bias).choices
    calls = choice.message.tool_calls
    assert len({call.id for call in calls}) == len(calls) >= 1
    for call in calls[: None if choice.finish_reason == "tool_calls" else -1]:
        _check(call)


def test_calls_are_streamed_as_they_are_written(smollm2_server: Server) -> None:
    whole = _ask(smollm2_server, tool_choice=NAMED).choices[0].message.tool_calls[0].function
    parts, reasons, content = [], [], ""
    for chunk in _ask(smollm2_server, tool_choice=NAMED, stream=True):
        [choice] = chunk.choices
        content += choice.delta.content or ""
        parts += choice.delta.tool_calls or []
        reasons.append(choice.finish_reason)
    first, *rest = parts
    assert (first.index, first.function.name, first.function.arguments, first.type) == (0, "get_time", "", "function")
    assert first.id
    assert all(part.id is None and part.function.name is None for part in rest)
    assert len(rest) > 2, "arguments come in pieces"
    assert "".join(part.function.arguments for part in rest) == whole.arguments
    assert (content, reasons[-1], set(reasons[:-1])) == ("", "tool_calls", {None})


def test_custom_tool_is_called_with_a_text_of_its_grammar(smollm2_server: Server) -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "note [a-z]{4,12}"}}
    given: dict[str, Any] = {
        "tools": [*TOOLS, {"type": "custom", "custom": {"name": "note", "description": "Notes.", "format": grammar}}],
        "tool_choice": {"type": "custom", "custom": {"name": "note"}},
    }
    [choice] = _ask(smollm2_server, **given).choices
    [call] = choice.message.tool_calls
    assert (call.type, call.custom.name, choice.finish_reason) == ("custom", "note", "tool_calls")
    assert re.fullmatch("note [a-z]{4,12}", call.custom.input)
    chunks = [chunk.to_dict()["choices"][0]["delta"] for chunk in _ask(smollm2_server, stream=True, **given)]
    parts = [part for delta in chunks for part in delta.get("tool_calls", ())]
    assert "".join(part["custom"]["input"] for part in parts) == call.custom.input
    assert len(parts) > 2, "the text comes in pieces"
    result = {"role": "tool", "tool_call_id": call.id, "content": "Noted."}
    assert _ask(smollm2_server, messages=[*MESSAGES, choice.message.to_dict(), result], max_tokens=4).choices


def test_a_call_that_is_cut_off_ends_as_length(smollm2_server: Server) -> None:
    [choice] = _ask(smollm2_server, tool_choice=NAMED, max_tokens=16).choices
    assert choice.finish_reason == "length"
    if choice.message.tool_calls:
        with pytest.raises(json.JSONDecodeError):
            json.loads(choice.message.tool_calls[0].function.arguments)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_what_an_enforced_call_is_cut_off_before_its_name_is_content(smollm2_server: Server, most: int) -> None:
    [choice] = _ask(smollm2_server, tool_choice="required", max_tokens=most).choices
    assert '<tool_call>\n{"name": "get_'.startswith(choice.message.content)
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "length")


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_a_model_that_need_not_call_may_just_answer(smollm2_server: Server, choice: str) -> None:
    answer = _ask(smollm2_server, tool_choice=choice, max_tokens=8)
    message = answer.choices[0].message
    assert message.content
    assert not message.tool_calls


def test_tools_that_may_not_be_called_are_not_shown(smollm2_server: Server) -> None:
    without = _ask(smollm2_server, tools=None, max_tokens=1).usage.prompt_tokens
    assert _ask(smollm2_server, tool_choice="none", max_tokens=1).usage.prompt_tokens == without
    assert _ask(smollm2_server, max_tokens=1).usage.prompt_tokens > without


def test_each_choice_makes_its_own_calls(smollm2_server: Server) -> None:
    choices = _ask(smollm2_server, tool_choice=NAMED, n=2, temperature=1.0, seed=1).choices
    assert [choice.index for choice in choices] == [0, 1]
    calls = [choice.message.tool_calls[0] for choice in choices]
    for call in calls:
        _check(call)
    assert calls[0].id != calls[1].id


def test_a_conversation_goes_on_with_the_result(smollm2_server: Server) -> None:
    [choice] = _ask(smollm2_server, tool_choice=NAMED).choices
    [call] = choice.message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"time": "12:00"}'}
    sent_back = choice.message.model_dump()
    answer = _ask(smollm2_server, messages=[*MESSAGES, sent_back, result], max_tokens=8)
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls


def test_arguments_that_are_no_json_go_back_too(smollm2_server: Server) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": "not JSON {"}}
    sent_back: Any = {"role": "assistant", "content": None, "tool_calls": [call]}
    result: Any = {"role": "tool", "tool_call_id": "c1", "content": "error"}
    assert _ask(smollm2_server, messages=[*MESSAGES, sent_back, result], max_tokens=4).choices


def test_the_deprecated_form_is_answered_in_its_own_shape(smollm2_server: Server) -> None:
    functions = [tool["function"] for tool in TOOLS]
    more = {"tools": None, "functions": functions, "function_call": {"name": "get_time"}}
    body = {"messages": MESSAGES, "max_tokens": 60, "temperature": 0, **more}
    choice = smollm2_server.post("/v1/chat/completions", body, timeout=300).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert json.loads(choice["message"]["function_call"]["arguments"])["zone"] in ("UTC", "CET")
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize(
    ("parameters", "path", "reason"),
    [
        ({"type": "string"}, "", "object"),
        ({"properties": {"a": {"$ref": "http://127.0.0.1:1/"}}}, ".properties.a.$ref", "`$defs`"),
    ],
)
def test_a_strict_function_that_cannot_be_enforced_is_refused(
    smollm2_server: Server, parameters: Any, path: str, reason: str
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": True}}]
    body = {"messages": MESSAGES, "tools": tools, "tool_choice": "required"}
    answer = smollm2_server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == f"tools[0].function.parameters{path}"
    assert reason in answer.json()["detail"]
