"""Tools as Anthropic's requests describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from mlx_server.schemas.anthropic.blocks import CacheControl
from mlx_server.schemas.anthropic.own_tools import own_tool
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Tool, ToolUse
from mlx_server.schemas.openai.tools import FunctionSpec, named_use, tuple_of_tools

SERVERS_TOOL = re.compile(r"[a-z0-9_]+_\d{8}|mcp_toolset|tool_search_tool_(regex|bm25)")
"""Types of tools that Anthropic's servers run: with a version, or those of others' servers; the search for tools may
come without one."""


class ToolParam(msgspec.Struct, frozen=True):
    """A tool: of the client's making (no type, or `custom`), or one that Anthropic defines."""

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
    display_width_px: int | None = None
    display_height_px: int | None = None
    display_number: int | None = None
    enable_zoom: bool | None = None
    max_characters: int | None = None
    # What only tools have that are left out.
    allowed_domains: Any = None
    blocked_domains: Any = None
    caching: Any = None
    citations: Any = None
    configs: Any = None
    default_config: Any = None
    max_content_tokens: Any = None
    max_tokens: Any = None
    max_uses: Any = None
    mcp_server_name: Any = None
    model: Any = None
    response_inclusion: Any = None
    use_cache: Any = None
    user_location: Any = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools may or must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """The tools that the model is told of, the names of those that are left out, and the paths of what changes
    nothing."""

    tools: tuple[Tool, ...]
    left_out: frozenset[str]
    ignored: tuple[str, ...]


def to_tools(given: list[ToolParam] | None) -> Offered:
    """The inside types; what only Anthropic's servers can run is left out. Raises InvalidRequest."""
    functions, left_out, ignored = [], set(), []
    for i, tool in enumerate(given or ()):
        path = f"tools[{i}]"
        function = to_function(tool, path)
        if function is None:
            left_out.add(tool.name or "")
            ignored.append(f"{path}.{tool.type}")
        else:
            functions.append((function, path))
            ignored += [f"{path}.{name}" for name in without_effect(tool)]
    return Offered(tuple_of_tools(functions, "tools", "input_schema"), frozenset(left_out), tuple(ignored))


def to_function(tool: ToolParam, path: str) -> FunctionSpec | None:
    """A tool that the client runs as a function; None for one of Anthropic's servers. Raises InvalidRequest."""
    description, schema = tool.description, tool.input_schema
    if tool.type not in (None, "custom"):
        own = own_tool(tool.type, msgspec.structs.asdict(tool))
        if own is None and SERVERS_TOOL.fullmatch(tool.type):
            return None
        if own is None:
            message = f"`{path}.type`: {tool.type[:64]!r} is not supported; leave it out, or use 'custom'."
            raise InvalidRequest(message, f"{path}.type", "unsupported_parameter")
        description, schema = own
    if tool.name is None or schema is None:
        missing = "name" if tool.name is None else "input_schema"
        raise InvalidRequest(f"`{path}.{missing}` is missing.", f"{path}.{missing}")
    return FunctionSpec(tool.name, with_examples(description, tool.input_examples), schema, tool.strict)


def with_examples(description: str | None, examples: list[dict[str, Any]] | None) -> str | None:
    """A description that shows examples of a tool's input."""
    if not examples:
        return description
    listed = "\n".join(msgspec.json.encode(example).decode() for example in examples)
    return f"{description or ''}\n\nExamples of its input:\n{listed}".lstrip()


def without_effect(tool: ToolParam) -> list[str]:
    """The fields that change nothing here: every tool is in the prompt, and only the model itself calls it."""
    names = {
        "allowed_callers": tool.allowed_callers is not None and "direct" not in tool.allowed_callers,
        "defer_loading": bool(tool.defer_loading),
        "display_number": tool.display_number is not None,
        "max_characters": tool.max_characters is not None,
    }
    return [name for name, given in names.items() if given]


def to_tool_use(choice: ToolChoice | None, offered: Offered) -> tuple[ToolUse, tuple[str, ...]]:
    """Which tools may or must be called, and the paths of what changes nothing in that. Raises InvalidRequest for a
    choice among none, or of one that is unknown or left out."""
    if choice is None:
        return ToolUse(), ()
    ignored = ("tool_choice.name",) if choice.name is not None and choice.type != "tool" else ()
    parallel = not choice.disable_parallel_tool_use
    match choice.type:
        case "none":
            return ToolUse("none"), ignored
        case "auto":
            return ToolUse("auto", parallel=parallel), ignored
        case "any":
            check_callable(offered, "tool_choice")
            return ToolUse("required", parallel=parallel), ignored
    if choice.name is None:
        raise InvalidRequest("`tool_choice.name` is missing.", "tool_choice.name")
    if choice.name in offered.left_out:
        message = f"`tool_choice.name`: {choice.name[:64]!r} is a tool that this server does not have."
        raise InvalidRequest(message, "tool_choice.name", "unsupported_parameter")
    check_callable(offered, "tool_choice")
    return named_use(choice.name, {tool.name for tool in offered.tools}, "tool_choice.name"), ignored


def check_callable(offered: Offered, param: str) -> None:
    """Raises InvalidRequest if there is nothing to call."""
    if offered.left_out and not offered.tools:
        raise InvalidRequest(f"`{param}`: this server has none of the `tools`.", param, "unsupported_parameter")
    if not offered.tools:
        raise InvalidRequest(f"`{param}` is only allowed when `tools` are given.", param)
