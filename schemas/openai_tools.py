"""Functions that a model may call, as chat completions and their deprecated `functions` describe them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Tool, ToolUse
from mlx_server.schemas.references import check_references

MAX_TOOLS = 128
NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class FunctionSpec(msgspec.Struct, frozen=True):
    """A function; `parameters` is a JSON schema of its arguments."""

    name: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME.pattern}$"})]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool; only functions are served."""

    type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["function"]})]
    function: FunctionSpec | None = None


class FunctionName(msgspec.Struct, frozen=True):
    """A function by its name."""

    name: str


class AllowedTools(msgspec.Struct, frozen=True):
    """Some of the request's tools."""

    mode: Literal["auto", "required"]
    tools: list[ToolSpec]


class NamedChoice(msgspec.Struct, frozen=True):
    """The one function to call, or the few that may be."""

    type: Literal["function", "allowed_tools"]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


ToolChoice = Literal["none", "auto", "required"] | NamedChoice
FunctionChoice = Literal["none", "auto"] | FunctionName


def to_tools(given: list[ToolSpec] | None, path: str = "tools") -> tuple[Tool, ...]:
    """The inside types. Raises InvalidRequest for what is no function, a bad name, or a name given twice."""
    functions = []
    for i, tool in enumerate(given or ()):
        if tool.type != "function":
            message = f"`{path}[{i}].type`: {tool.type!r} is not supported; 'function' is."
            raise InvalidRequest(message, f"{path}[{i}].type", "unsupported_parameter")
        if tool.function is None:
            raise InvalidRequest(f"`{path}[{i}].function` is missing.", f"{path}[{i}].function")
        functions.append((tool.function, f"{path}[{i}].function"))
    return tuple_of_functions(functions, path)


def to_functions(given: list[FunctionSpec] | None) -> tuple[Tool, ...]:
    """The inside types of the deprecated field. Raises InvalidRequest."""
    return tuple_of_functions([(spec, f"functions[{i}]") for i, spec in enumerate(given or ())], "functions")


def tuple_of_functions(
    given: list[tuple[FunctionSpec, str]], path: str, most: int = MAX_TOOLS, *, schema: str = "parameters"
) -> tuple[Tool, ...]:
    """Functions with their paths, checked; `schema` is what the API calls their schemas. Raises InvalidRequest."""
    if len(given) > most:
        raise InvalidRequest(f"`{path}`: at most {most} are allowed, got {len(given)}.", path)
    names: set[str] = set()
    for spec, where in given:
        check_name(spec.name, f"{where}.name")
        if spec.name in names:
            raise InvalidRequest(f"`{where}.name`: {spec.name!r} is defined twice.", f"{where}.name")
        check_references(spec.parameters or {}, f"{where}.{schema}")
        names.add(spec.name)
    return tuple(
        Tool(spec.name, spec.description, spec.parameters, bool(spec.strict), param=f"{where}.{schema}")
        for spec, where in given
    )


def check_name(name: str, param: str) -> None:
    """Raise InvalidRequest for what is no function's name."""
    if not NAME.fullmatch(name):
        message = f"`{param}`: a name has 1 to 128 letters, digits, '_', '-' and '.', got {name!r}."
        raise InvalidRequest(message, param)


def to_tool_use(choice: ToolChoice | None, parallel: bool | None, tools: tuple[Tool, ...]) -> tuple[ToolUse, set[str]]:
    """Which tools may or must be called, and the names of those that take part. Raises InvalidRequest."""
    names = {tool.name for tool in tools}
    many = parallel is not False
    if not isinstance(choice, NamedChoice):
        return use_by_word(choice, many, tools), names
    check_given(tools)
    if choice.function is not None and choice.allowed_tools is not None:
        other = "function" if choice.type == "allowed_tools" else "allowed_tools"
        raise InvalidRequest(
            f"`tool_choice.{other}` does not go with the type {choice.type!r}.", f"tool_choice.{other}"
        )
    if choice.type == "allowed_tools":
        if choice.allowed_tools is None:
            raise InvalidRequest("`tool_choice.allowed_tools` is missing.", "tool_choice.allowed_tools")
        allowed = {t.function.name if t.function is not None else "" for t in choice.allowed_tools.tools}
        if not allowed or not allowed <= names:
            raise InvalidRequest(
                "`tool_choice.allowed_tools.tools` must name some of `tools`.", "tool_choice.allowed_tools.tools"
            )
        return ToolUse(choice.allowed_tools.mode, parallel=many), allowed
    if choice.function is None:
        raise InvalidRequest("`tool_choice.function` is missing.", "tool_choice.function")
    return named_use(choice.function.name, names, "tool_choice.function.name"), names


def use_by_word(word: Literal["none", "auto", "required"] | None, parallel: bool, tools: tuple[Tool, ...]) -> ToolUse:
    """A choice that names no function. Raises InvalidRequest for calls that must be made of nothing."""
    if word == "none":
        return ToolUse("none")
    if word == "required":
        check_given(tools)
    return ToolUse(word or "auto", parallel=parallel)


def check_given(tools: tuple[Tool, ...]) -> None:
    """Raise InvalidRequest if there is nothing to choose from."""
    if not tools:
        raise InvalidRequest("`tool_choice` is only allowed when `tools` are given.", "tool_choice")


def to_function_use(choice: FunctionChoice | None, tools: tuple[Tool, ...]) -> ToolUse:
    """The deprecated `function_call`: at most one call. Raises InvalidRequest."""
    if isinstance(choice, FunctionName):
        return named_use(choice.name, {tool.name for tool in tools}, "function_call.name")
    return ToolUse("none" if choice == "none" else "auto", parallel=False)


def named_use(name: str, names: set[str], param: str) -> ToolUse:
    """The one function to call. Raises InvalidRequest if there is none of that name."""
    if name not in names:
        raise InvalidRequest(f"`{param}`: there is no function {name!r} in this request.", param)
    return ToolUse("named", name, parallel=False)
