"""Tools as Anthropic's requests describe them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlx_server.schemas.anthropic_messages import CacheControl
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Tool, ToolUse
from mlx_server.schemas.openai_tools import FunctionSpec, named_use, tuple_of_functions


class ToolParam(msgspec.Struct, frozen=True):
    """A tool; only those that the client runs are served (no type, or `custom`)."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    """A call's input is always streamed as it is made."""
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    input_examples: list[dict[str, Any]] | None = None


class ToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tools may or must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def to_tools(given: list[ToolParam] | None) -> tuple[Tool, ...]:
    """The inside types. Raises InvalidRequest for a server's tool, and for what this server does not do."""
    functions = []
    for i, tool in enumerate(given or ()):
        path = f"tools[{i}]"
        check_kind(tool, path)
        if tool.name is None or tool.input_schema is None:
            field = "name" if tool.name is None else "input_schema"
            raise InvalidRequest(f"`{path}.{field}` is missing.", f"{path}.{field}")
        functions.append((FunctionSpec(tool.name, tool.description, tool.input_schema, tool.strict), path))
    return tuple_of_functions(functions, "tools", "input_schema")


def check_kind(tool: ToolParam, path: str) -> None:
    """Raises InvalidRequest for what only Anthropic's own servers do."""
    refused = {
        "type": f"{tool.type!r} is not supported; tools that the client runs are ('custom')."
        if tool.type not in (None, "custom")
        else "",
        "allowed_callers": "only 'direct' is supported." if tool.allowed_callers not in (None, ["direct"]) else "",
        "defer_loading": "is not supported: every tool is in the prompt." if tool.defer_loading else "",
        "input_examples": "are not supported: describe them in `description`." if tool.input_examples else "",
    }
    for field, message in refused.items():
        if message:
            raise InvalidRequest(f"`{path}.{field}`: {message}", f"{path}.{field}", "unsupported_parameter")


def to_tool_use(choice: ToolChoice | None, tools: tuple[Tool, ...]) -> ToolUse:
    """Which tools may or must be called. Raises InvalidRequest for a choice among none, or of an unknown one."""
    if choice is None:
        return ToolUse()
    if choice.name is not None and choice.type != "tool":
        raise InvalidRequest("`tool_choice.name` needs the type 'tool'.", "tool_choice.name")
    parallel = not choice.disable_parallel_tool_use
    match choice.type:
        case "none":
            return ToolUse("none")
        case "auto":
            return ToolUse("auto", parallel=parallel)
    if not tools:
        raise InvalidRequest("`tool_choice` is only allowed when `tools` are given.", "tool_choice")
    if choice.type == "any":
        return ToolUse("required", parallel=parallel)
    if choice.name is None:
        raise InvalidRequest("`tool_choice.name` is missing.", "tool_choice.name")
    return named_use(choice.name, {tool.name for tool in tools}, "tool_choice.name")
