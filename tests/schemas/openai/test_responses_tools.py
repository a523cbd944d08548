"""The tools of `/v1/responses`: which functions a model sees for them, and what of them is left out and named."""

import json
from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Grammar, ToolUse
from mlx_server.schemas.openai import responses as openai_responses
from mlx_server.schemas.openai.responses import HARMLESS, Turn
from mlx_server.schemas.openai.responses_tools import without_secrets
from mlx_server.schemas.openai.tools import MAX_TOOLS
from mlx_server.schemas.parsing.parse import parse

EMPTY = {"type": "object", "properties": {}}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": EMPTY, **more}


def namespace(name: str, *tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": f"About {name}.", "tools": list(tools), **more}


def custom(name: str = "edit", **more: Any) -> dict[str, Any]:
    return {"type": "custom", "name": name, **more}


LARK = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}


def turn(*tools: dict[str, Any], **given: Any) -> Turn:
    body = {"input": "Hello", "tools": list(tools), **given}
    return Turn(parse(json.dumps(body).encode(), openai_responses.decoder, HARMLESS)[0])


def generation(*tools: dict[str, Any], **given: Any) -> GenerationRequest:
    return turn(*tools, **given).to_generation(9)


def offered(*tools: dict[str, Any], **given: Any) -> list[str]:
    [prompt] = generation(*tools, **given).prompts
    assert isinstance(prompt, ChatPrompt)
    return [tool.name for tool in prompt.tools]


def refusal(*tools: dict[str, Any], **given: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        generation(*tools, **given)
    assert caught.value.param is not None
    assert caught.value.param in caught.value.message
    return caught.value


NAMES: list[tuple[list[dict[str, Any]], list[str]]] = [
    ([function("f"), namespace("mcp__x", function("g"), custom("h"))], ["f", "mcp__x__g", "mcp__x__h"]),
    ([namespace("mcp__x__", function("g"))], ["mcp__x__g"]),
    ([namespace("a", function("f")), namespace("b", function("f")), function("f")], ["a__f", "b__f", "f"]),
    ([namespace("a", function("f")), function("a__f")], ["a__f_2", "a__f"]),
    ([namespace("a b", function("f")), namespace("a.b", function("f"))], ["a_b__f", "a.b__f"]),
    ([namespace("a b", function("f")), namespace("a?b", function("f"))], ["a_b__f", "a_b__f_2"]),
    ([{"type": "local_shell"}, {"type": "shell"}, {"type": "apply_patch"}], ["local_shell", "shell", "apply_patch"]),
    ([{"type": "shell", "environment": {"type": "local"}}, function("shell")], ["shell_2", "shell"]),
    ([{"type": "tool_search", "execution": "client", "parameters": EMPTY}], ["tool_search"]),
    ([function("f", defer_loading=True), {"type": "tool_search"}], ["f"]),
]


@pytest.mark.parametrize(("tools", "names"), NAMES)
def test_every_tool_has_a_name_of_its_own(tools: list[dict[str, Any]], names: list[str]) -> None:
    assert offered(*tools) == names


def test_long_names_stay_apart_and_short_enough() -> None:
    tools = [namespace("n" * 100 + end, function("f" * 100)) for end in "ab"]
    names = offered(*tools)
    assert len(set(names)) == 2
    assert {len(name) for name in names} == {128}


def test_namespace_is_described_once() -> None:
    [prompt] = generation(namespace("x", function("f", description="F."), function("g"))).prompts
    assert isinstance(prompt, ChatPrompt)
    assert [tool.description for tool in prompt.tools] == ["F.\n\nAll tools named x__...: About x.", None]


@pytest.mark.parametrize(
    ("given", "grammar"),
    [
        ({}, None),
        ({"format": None}, None),
        ({"format": {"type": "text"}}, None),
        ({"format": LARK}, Grammar("lark", "start: /.+/", "tools[0].format.definition")),
        (
            {"format": {"type": "grammar", "syntax": "regex", "definition": "a+"}},
            Grammar("regex", "a+", "tools[0].format.definition"),
        ),
    ],
)
def test_custom_tool_is_a_function_of_one_text(given: dict[str, Any], grammar: Grammar | None) -> None:
    [prompt] = generation(custom(description="D.", **given)).prompts
    assert isinstance(prompt, ChatPrompt)
    [tool] = prompt.tools
    assert (tool.name, tool.description, tool.text) == ("edit", "D.", grammar)
    assert tool.parameters is not None
    assert tool.parameters["required"] == ["input"]
    assert (grammar.text if grammar else "text") in tool.parameters["properties"]["input"]["description"]


IGNORED: list[tuple[dict[str, Any], list[str]]] = [
    ({"type": kind}, [f"tools[1].{kind}"])
    for kind in (
        *("web_search", "web_search_preview", "web_search_2025_08_26", "code_interpreter", "computer_use_preview"),
        *("computer", "image_generation", "tool_search", "programmatic_tool_calling", "unheard_of"),
    )
] + [
    ({"type": "file_search", "vector_store_ids": ["v"]}, ["tools[1].file_search"]),
    ({"type": "mcp", "server_label": "s", "headers": {"a": "b"}}, ["tools[1].mcp"]),
    ({"type": "shell", "environment": {"type": "container_auto"}}, ["tools[1].shell"]),
    (namespace("x", function("f"), {"type": "mcp"}), ["tools[1].tools[1].mcp"]),
    (
        function("g", output_schema={}, allowed_callers=["direct"], strict=True),
        ["tools[1].allowed_callers", "tools[1].output_schema"],
    ),
    (custom(parameters=EMPTY), ["tools[1].parameters"]),
    (function("g", defer_loading=True, output_schema=None), []),
]


@pytest.mark.parametrize(("tool", "ignored"), IGNORED)
def test_what_cannot_be_run_here_is_left_out_and_named(tool: dict[str, Any], ignored: list[str]) -> None:
    assert list(generation(function("f"), tool).ignored) == ignored


CHOICES: list[tuple[Any, ToolUse, list[str]]] = [
    ({"type": "function", "name": "f"}, ToolUse("named", "f", parallel=False), []),
    ({"type": "function", "name": "g"}, ToolUse("named", "x__g", parallel=False), []),
    ({"type": "function", "name": "f", "namespace": "x"}, ToolUse("named", "x__f", parallel=False), []),
    ({"type": "custom", "name": "edit"}, ToolUse("named", "edit", parallel=False), []),
    *[({"type": kind}, ToolUse("named", kind, parallel=False), []) for kind in ("local_shell", "shell", "apply_patch")],
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "edit"}]}, ToolUse(), ["edit"]),
    ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "shell"}]}, ToolUse("required"), ["shell"]),
    (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "x"}]},
        ToolUse(),
        ["x__f", "x__g"],
    ),
]
ALL = [
    function("f"),
    namespace("x", function("f"), function("g")),
    custom(),
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "web_search"},
    {"type": "mcp", "server_label": "s"},
]


@pytest.mark.parametrize(("choice", "use", "names"), CHOICES)
def test_tool_choice_has_every_form(choice: Any, use: ToolUse, names: list[str]) -> None:
    assert generation(*ALL, tool_choice=choice).tool_use == use
    assert offered(*ALL, tool_choice=choice) == (names or offered(*ALL))


def test_allowed_tools_that_cannot_be_run_are_named() -> None:
    listed = [{"type": "mcp", "server_label": "s"}, {"type": "function", "name": "f"}]
    asked = generation(*ALL, tool_choice={"type": "allowed_tools", "mode": "auto", "tools": listed})
    assert list(asked.ignored) == ["tools[6].web_search", "tools[7].mcp", "tool_choice.tools[0].mcp"]


DEMANDED: list[tuple[Any, str]] = [
    ({"type": "web_search_preview"}, "tool_choice.type"),
    ({"type": "mcp", "server_label": "s"}, "tool_choice.type"),
    ({"type": "custom", "name": "f"}, "tool_choice.name"),
    ({"type": "custom"}, "tool_choice.name"),
    ({"type": "function", "name": "f", "namespace": "y"}, "tool_choice.name"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, "tool_choice.tools"),
    ({"type": "allowed_tools", "mode": "auto", "tools": [function("h")]}, "tool_choice.tools"),
]


@pytest.mark.parametrize(("choice", "param"), DEMANDED)
def test_demand_for_what_cannot_be_called_is_refused_by_name(choice: Any, param: str) -> None:
    assert refusal(*ALL, tool_choice=choice).param == param


def test_calls_that_must_be_made_of_nothing_are_refused() -> None:
    assert refusal({"type": "web_search"}, tool_choice="required").param == "tool_choice"
    assert refusal({"type": "web_search"}, tool_choice={"type": "web_search"}).param == "tool_choice.type"


WRONG: list[tuple[list[dict[str, Any]], str]] = [
    ([custom("a b")], "tools[0].name"),
    ([{"type": "custom"}], "tools[0].name"),
    ([custom(), function("edit")], "tools[1].name"),
    ([namespace("x", function("f"), function("f"))], "tools[0].tools[1].name"),
    ([namespace("", function("f"))], "tools[0].name"),
    ([namespace("x", function("a b"))], "tools[0].tools[0].name"),
    ([custom(format={"type": "xml"})], "tools[0].format.type"),
    ([custom(format={"type": "grammar", "definition": "a"})], "tools[0].format.syntax"),
    ([custom(format={"type": "grammar", "syntax": "lark"})], "tools[0].format.definition"),
    ([function(f"f{n}") for n in range(MAX_TOOLS + 1)], "tools"),
]


@pytest.mark.parametrize(("tools", "param"), WRONG)
def test_tools_that_make_no_sense_are_refused_by_name(tools: list[dict[str, Any]], param: str) -> None:
    assert refusal(*tools).param == param


def test_tools_that_a_search_found_are_offered_from_then_on() -> None:
    found = {"type": "tool_search_output", "call_id": "c", "tools": [namespace("x", function("g")), function("f")]}
    more = {"type": "additional_tools", "role": "developer", "tools": [function("h"), {"type": "web_search"}]}
    items = [{"role": "user", "content": "a"}, found, found, more]
    assert offered(function("f"), input=items) == ["f", "x__g", "h"]
    assert list(generation(function("f"), input=items).ignored) == ["input[3].tools[1].web_search"]


def test_secrets_are_not_shown() -> None:
    given = turn({"type": "mcp", "server_label": "s", "authorization": "secret", "headers": {"k": "secret"}}).given
    assert "secret" not in str(without_secrets(given.tools or ()))
    items = [
        {"role": "user", "content": "a"},
        {"type": "additional_tools", "tools": [{"type": "mcp", "headers": "secret"}]},
    ]
    assert "secret" not in str(turn(input=items).items)
