"""Tools that a model may call, as chat completions and their deprecated `functions` describe them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Tool, ToolUse
from mlx_server.schemas.openai.custom_tools import text_parameters, to_grammar
from mlx_server.schemas.parsing.json_schema_refs import check_references

MAX_TOOLS = 1024
"""Clients with many MCP servers send hundreds, more than the 128 that OpenAI takes; their tokens bound them, too."""

NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
KINDS = ("function", "custom")


class FunctionSpec(msgspec.Struct, frozen=True):
    """A function; `parameters` is a JSON schema of its arguments."""

    name: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME.pattern}$"})]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextGrammar(msgspec.Struct, frozen=True):
    """A grammar of texts."""

    definition: str
    syntax: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["lark", "regex"]})]


class TextFormat(msgspec.Struct, frozen=True):
    """What a custom tool's text may be: any, or what a grammar allows."""

    type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["text", "grammar"]})]
    grammar: TextGrammar | None = None


class CustomSpec(msgspec.Struct, frozen=True):
    """A tool that takes a text."""

    name: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME.pattern}$"})]
    description: str | None = None
    format: TextFormat | None = None


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool; the field that its type names describes it."""

    type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(KINDS)})]
    function: FunctionSpec | None = None
    custom: CustomSpec | None = None

    @property
    def spec(self) -> FunctionSpec | CustomSpec | None:
        """What describes it."""
        return self.custom if self.type == "custom" else self.function


class FunctionName(msgspec.Struct, frozen=True):
    """A tool by its name."""

    name: str


class AllowedTools(msgspec.Struct, frozen=True):
    """Some of the request's tools."""

    mode: Literal["auto", "required"]
    tools: list[ToolSpec]


class NamedChoice(msgspec.Struct, frozen=True):
    """The one tool to call, or the few that may be; some clients put a word of `ToolChoice` here, too."""

    type: Literal["function", "custom", "allowed_tools", "none", "auto", "required"]
    function: FunctionName | None = None
    custom: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


ToolChoice = Literal["none", "auto", "required"] | NamedChoice
FunctionChoice = Literal["none", "auto"] | FunctionName


def to_tools(given: list[ToolSpec] | None, path: str = "tools") -> tuple[Tool, ...]:
    """The inside types. Raises InvalidRequest for an unknown type, a bad name, or a name given twice."""
    specs = []
    for i, tool in enumerate(given or ()):
        if tool.type not in KINDS:
            message = f"`{path}[{i}].type`: {tool.type[:64]!r} is not supported; 'function' and 'custom' are."
            raise InvalidRequest(message, f"{path}[{i}].type", "unsupported_parameter")
        where = f"{path}[{i}].{tool.type}"
        if tool.spec is None:
            raise InvalidRequest(f"`{where}` is missing.", where)
        specs.append((tool.spec, where))
    return tuple_of_tools(specs, path)


def to_functions(given: list[FunctionSpec] | None) -> tuple[Tool, ...]:
    """The inside types of the deprecated field. Raises InvalidRequest."""
    return tuple_of_tools([(spec, f"functions[{i}]") for i, spec in enumerate(given or ())], "functions")


def tuple_of_tools(
    given: Sequence[tuple[FunctionSpec | CustomSpec, str]],
    path: str,
    schema: str = "parameters",
) -> tuple[Tool, ...]:
    """Tools with their paths, checked; `schema` is what the API calls functions' schemas. Raises InvalidRequest."""
    if len(given) > MAX_TOOLS:
        raise InvalidRequest(f"`{path}`: at most {MAX_TOOLS} are allowed, got {len(given)}.", path)
    names: set[str] = set()
    for spec, where in given:
        check_name(spec.name, f"{where}.name")
        if spec.name in names:
            raise InvalidRequest(f"`{where}.name`: {spec.name!r} is defined twice.", f"{where}.name")
        names.add(spec.name)
    return tuple(
        to_custom(spec, where) if isinstance(spec, CustomSpec) else to_function(spec, f"{where}.{schema}")
        for spec, where in given
    )


def to_function(spec: FunctionSpec, param: str) -> Tool:
    """The inside type; `param` names its schema. Raises InvalidRequest."""
    check_references(spec.parameters or {}, param)
    return Tool(spec.name, spec.description, spec.parameters, bool(spec.strict), param=param)


def to_custom(spec: CustomSpec, where: str) -> Tool:
    """The function that stands for a custom tool. Raises InvalidRequest."""
    path, grammar = f"{where}.format", None
    if spec.format is not None:
        given = spec.format.grammar
        if spec.format.type == "grammar" and given is None:
            raise InvalidRequest(f"`{path}.grammar` is missing.", f"{path}.grammar")
        syntax, definition = (given.syntax, given.definition) if given is not None else (None, None)
        grammar = to_grammar(spec.format.type, syntax, definition, path, f"{path}.grammar")
    return Tool(spec.name, spec.description, text_parameters(grammar), text=grammar, param=path)


def check_name(name: str, param: str) -> None:
    """Raise InvalidRequest for what is no function's name."""
    if not NAME.fullmatch(name):
        message = f"`{param}`: a name has 1 to 128 letters, digits, '_', '-' and '.', got {name!r}."
        raise InvalidRequest(message, param)


def to_tool_use(
    choice: ToolChoice | None, parallel: bool | None, given: Sequence[ToolSpec]
) -> tuple[ToolUse, set[str]]:
    """Which of these tools may or must be called, and the names of those that take part. Raises InvalidRequest."""
    offered = names_of(given)
    names = {name for _, name in offered}
    many = parallel is not False
    if not isinstance(choice, NamedChoice):
        return use_by_word(choice, many, given), names
    if choice.type in ("none", "auto", "required"):
        return use_by_word(choice.type, many, given), names
    check_given(given)
    for other in ("function", "custom", "allowed_tools"):
        if other != choice.type and getattr(choice, other) is not None:
            message = f"`tool_choice.{other}` does not go with the type {choice.type!r}."
            raise InvalidRequest(message, f"tool_choice.{other}")
    if choice.type == "allowed_tools":
        if choice.allowed_tools is None:
            raise InvalidRequest("`tool_choice.allowed_tools` is missing.", "tool_choice.allowed_tools")
        allowed = names_of(choice.allowed_tools.tools)
        if not allowed or not allowed <= offered:
            raise InvalidRequest(
                "`tool_choice.allowed_tools.tools` must name some of `tools`.", "tool_choice.allowed_tools.tools"
            )
        return ToolUse(choice.allowed_tools.mode, parallel=many), {name for _, name in allowed}
    wanted = choice.custom if choice.type == "custom" else choice.function
    path = f"tool_choice.{choice.type}"
    if wanted is None:
        raise InvalidRequest(f"`{path}` is missing.", path)
    return named_use(wanted.name, {name for kind, name in offered if kind == choice.type}, f"{path}.name"), names


def names_of(tools: Iterable[ToolSpec]) -> set[tuple[str, str]]:
    """Their types and names."""
    return {(tool.type, tool.spec.name if tool.spec is not None else "") for tool in tools}


def use_by_word(word: Literal["none", "auto", "required"] | None, parallel: bool, tools: Sequence[object]) -> ToolUse:
    """A choice that names no function. Raises InvalidRequest for calls that must be made of nothing."""
    if word == "none":
        return ToolUse("none")
    if word == "required":
        check_given(tools)
    return ToolUse(word or "auto", parallel=parallel)


def check_given(tools: Sequence[object]) -> None:
    """Raise InvalidRequest if there is nothing to choose from."""
    if not tools:
        raise InvalidRequest("`tool_choice` is only allowed when `tools` are given.", "tool_choice")


def to_function_use(choice: FunctionChoice | None, tools: tuple[Tool, ...]) -> ToolUse:
    """The deprecated `function_call`: at most one call. Raises InvalidRequest."""
    if isinstance(choice, FunctionName):
        return named_use(choice.name, {tool.name for tool in tools}, "function_call.name")
    return ToolUse("none" if choice == "none" else "auto", parallel=False)


def named_use(name: str, names: set[str], param: str) -> ToolUse:
    """The one tool to call. Raises InvalidRequest if there is none of that name."""
    if name not in names:
        raise InvalidRequest(f"`{param}`: there is no function {name!r} in this request.", param)
    return ToolUse("named", name, parallel=False)
