"""Functions that a model may call: `tools`, `tool_choice`, and the deprecated `functions` and `function_call`."""

import json
from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, Grammar, Tool, ToolUse
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.openai.tools import MAX_TOOLS
from mlx_server.schemas.parsing.parse import parse

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def _tools(**fields: Any) -> tuple[tuple[Tool, ...], ToolUse]:
    body = json.dumps({"messages": [{"role": "user", "content": "a"}], **fields}).encode()
    generation = parse(body, openai_chat.decoder, HARMLESS)[0].to_generation(8)
    [prompt] = generation.prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt.tools, generation.tool_use


def _refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _tools(**fields)
    return caught.value


def _tool(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def _allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [_tool(name) for name in names]}}


def _custom(name: str = "c", **more: Any) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": name, **more}}


def _grammar(syntax: str = "regex", definition: str = "[a-z]+") -> dict[str, Any]:
    return {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}


F = [_tool("f")]
CUSTOM = _custom(description="Takes a text.")


def test_tools_keep_their_order_and_what_they_say() -> None:
    described = _tool("get_weather", description="Tells it.", parameters=SCHEMA, strict=True)
    tools, use = _tools(tools=[described, _tool("a-b.c"), _tool("x" * 128, parameters=None, strict=None)])
    assert tools == (
        Tool("get_weather", "Tells it.", SCHEMA, True, param="tools[0].function.parameters"),
        Tool("a-b.c", param="tools[1].function.parameters"),
        Tool("x" * 128, param="tools[2].function.parameters"),
    )
    assert use == ToolUse()


@pytest.mark.parametrize(
    "fields",
    [{}, {"tools": None}, {"tools": []}, {"functions": []}, {"tool_choice": "none"}, {"function_call": "none"}],
)
def test_no_tools_are_no_tools(fields: dict[str, Any]) -> None:
    assert _tools(**fields)[0] == ()


@pytest.mark.parametrize(
    ("fields", "use", "names"),
    [
        ({"tool_choice": "auto"}, ToolUse("auto"), "fg"),
        ({"tool_choice": None}, ToolUse("auto"), "fg"),
        ({"tool_choice": "none"}, ToolUse("none"), "fg"),
        ({"tool_choice": "required"}, ToolUse("required"), "fg"),
        ({"tool_choice": {"type": "auto"}}, ToolUse("auto"), "fg"),
        ({"tool_choice": {"type": "required"}}, ToolUse("required"), "fg"),
        ({"tool_choice": _named("g")}, ToolUse("named", "g", False), "fg"),
        ({"tool_choice": _allowed("auto", "g")}, ToolUse("auto"), "g"),
        ({"tool_choice": _allowed("required", "g", "f")}, ToolUse("required"), "fg"),
        ({"parallel_tool_calls": False}, ToolUse("auto", None, False), "fg"),
        ({"parallel_tool_calls": False, "tool_choice": "required"}, ToolUse("required", None, False), "fg"),
        ({"parallel_tool_calls": True}, ToolUse("auto"), "fg"),
    ],
    ids=str,
)
def test_choice_says_which_tools_may_or_must_be_called(fields: dict[str, Any], use: ToolUse, names: str) -> None:
    tools, used = _tools(tools=[_tool("f"), _tool("g")], **fields)
    assert used == use
    assert "".join(tool.name for tool in tools) == names


@pytest.mark.parametrize(
    ("format_", "grammar"),
    [
        (None, None),
        ({"type": "text"}, None),
        (_grammar(), Grammar("regex", "[a-z]+", "tools[1].custom.format.grammar.definition")),
        (_grammar("lark", "start: /a/"), Grammar("lark", "start: /a/", "tools[1].custom.format.grammar.definition")),
    ],
)
def test_custom_tool_is_a_function_of_one_text(format_: Any, grammar: Grammar | None) -> None:
    (function, custom), use = _tools(
        tools=[*F, _custom(description="Takes a text.", format=format_)],
        tool_choice={"type": "custom", "custom": {"name": "c"}},
    )
    assert (function.name, custom.name, custom.description, custom.text) == ("f", "c", "Takes a text.", grammar)
    assert custom.parameters is not None
    assert list(custom.parameters["properties"]) == custom.parameters["required"] == ["input"]
    assert use == ToolUse("named", "c", False)


def test_custom_tools_may_be_among_the_few_that_are_allowed() -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CUSTOM]}}
    [custom], use = _tools(tools=[*F, CUSTOM], tool_choice=allowed)
    assert (custom.name, use) == ("c", ToolUse("required"))


@pytest.mark.parametrize(
    ("fields", "use"),
    [
        ({}, ToolUse("auto", None, False)),
        ({"function_call": None}, ToolUse("auto", None, False)),
        ({"function_call": "auto"}, ToolUse("auto", None, False)),
        ({"function_call": "none"}, ToolUse("none", None, False)),
        ({"function_call": {"name": "g"}}, ToolUse("named", "g", False)),
    ],
    ids=str,
)
def test_deprecated_functions_are_tools_that_are_called_one_at_a_time(fields: dict[str, Any], use: ToolUse) -> None:
    given = [{"name": "f", "description": "Does it.", "parameters": SCHEMA}, {"name": "g"}]
    tools = (Tool("f", "Does it.", SCHEMA, param="functions[0].parameters"), Tool("g", param="functions[1].parameters"))
    assert _tools(functions=given, **fields) == (tools, use)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": "f"}, "tools"),
        ({"tools": [None]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [_tool(""), *F]}, "tools[0].function.name"),
        ({"tools": [*F, _tool("with space")]}, "tools[1].function.name"),
        ({"tools": [_tool("x" * 129)]}, "tools[0].function.name"),
        ({"tools": [_tool("naïve")]}, "tools[0].function.name"),
        ({"tools": [_tool("f\n")]}, "tools[0].function.name"),
        ({"tools": [*F, _tool("g"), *F]}, "tools[2].function.name"),
        ({"tools": [_tool(parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [_tool(parameters="{}")]}, "tools[0].function.parameters"),
        ({"tools": [_tool(strict="yes")]}, "tools[0].function.strict"),
        ({"tools": [_tool(description=1)]}, "tools[0].function.description"),
        ({"tools": [_tool(f"f{n}") for n in range(MAX_TOOLS + 1)]}, "tools"),
        ({"tools": F, "tool_choice": "f"}, "tool_choice"),
        ({"tools": F, "tool_choice": {}}, "tool_choice.type"),
        ({"tools": F, "tool_choice": {"type": "odd"}}, "tool_choice.type"),
        ({"tools": F, "tool_choice": {"type": "custom"}}, "tool_choice.custom"),
        ({"tools": F, "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.custom.name"),
        ({"tools": [CUSTOM], "tool_choice": _named("c")}, "tool_choice.function.name"),
        ({"tools": F, "tool_choice": {**_named("f"), "custom": {"name": "f"}}}, "tool_choice.custom"),
        ({"tools": [CUSTOM], "tool_choice": _allowed("auto", "c")}, "tool_choice.allowed_tools.tools"),
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [CUSTOM, _tool("c")]}, "tools[1].function.name"),
        ({"tools": [_custom(format={"type": "xml"})]}, "tools[0].custom.format.type"),
        ({"tools": [_custom(format={"type": "grammar"})]}, "tools[0].custom.format.grammar"),
        ({"tools": [_custom(format=_grammar("gbnf"))]}, "tools[0].custom.format.grammar.syntax"),
        ({"tools": [_custom(format=_grammar(definition=""))]}, "tools[0].custom.format.grammar.definition"),
        ({"tools": F, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": F, "tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        ({"tools": F, "tool_choice": _named("g")}, "tool_choice.function.name"),
        ({"tools": F, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tools": F, "tool_choice": _allowed("none", "f")}, "tool_choice.allowed_tools.mode"),
        ({"tools": F, "tool_choice": _allowed("auto")}, "tool_choice.allowed_tools.tools"),
        ({"tools": F, "tool_choice": _allowed("auto", "f", "g")}, "tool_choice.allowed_tools.tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": _named("f")}, "tool_choice"),
        ({"tools": F, "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tools": F, "functions": [{"name": "f"}]}, "functions"),
        ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions[1].name"),
        ({"functions": [{"name": "f g"}]}, "functions[0].name"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name"),
        ({"functions": [{"name": "f"}], "function_call": "required"}, "function_call"),
        ({"functions": [{"name": "f"}], "tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}], "tool_choice": "none"}, "tool_choice"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"tools": F, "function_call": "none"}, "function_call"),
        ({"tools": F, "function_call": {"name": "f"}}, "function_call"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_what_is_no_function_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    refusal = _refusal(**fields)
    assert refusal.param == param
    assert f"`{param}`" in refusal.message


@pytest.mark.parametrize("kind", ["web_search", "mcp", ""])
def test_tools_of_another_type_are_unsupported(kind: str) -> None:
    refusal = _refusal(tools=[{"type": kind, "custom": {"name": "x"}}])
    assert (refusal.param, refusal.code) == ("tools[0].type", "unsupported_parameter")
