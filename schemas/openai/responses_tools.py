"""The tools of `/v1/responses`: what clients offer, and the functions that a model sees in their place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar, Tool, ToolUse
from mlx_server.schemas.openai.custom_tools import object_of, text_parameters, to_grammar
from mlx_server.schemas.openai.tools import MAX_TOOLS, check_given, check_name, use_by_word
from mlx_server.schemas.parsing.json_schema_refs import check_references

MAX_NAME = 128

Kind = Literal["function", "custom", "local_shell", "shell", "apply_patch", "tool_search"]
Field = Any | UnsetType


class HostedFields(msgspec.Struct, frozen=True, kw_only=True):
    """What tools that run elsewhere, or in another way, are described by. It is kept to be shown."""

    allowed_callers: Field = UNSET
    async_: Field = msgspec.field(default=UNSET, name="async")
    output_schema: Field = UNSET
    filters: Field = UNSET
    vector_store_ids: Field = UNSET
    max_num_results: Field = UNSET
    ranking_options: Field = UNSET
    display_height: Field = UNSET
    display_width: Field = UNSET
    external_web_access: Field = UNSET
    search_content_types: Field = UNSET
    search_context_size: Field = UNSET
    user_location: Field = UNSET
    server_label: Field = UNSET
    server_url: Field = UNSET
    server_description: Field = UNSET
    connector_id: Field = UNSET
    allowed_tools: Field = UNSET
    require_approval: Field = UNSET
    tunnel_id: Field = UNSET
    container: Field = UNSET
    action: Field = UNSET
    background: Field = UNSET
    input_fidelity: Field = UNSET
    input_image_mask: Field = UNSET
    model: Field = UNSET
    moderation: Field = UNSET
    output_compression: Field = UNSET
    output_format: Field = UNSET
    partial_images: Field = UNSET
    quality: Field = UNSET
    size: Field = UNSET


class InputFormat(msgspec.Struct, frozen=True):
    """What the text of a custom tool may be: any, or what a grammar allows."""

    type: str
    syntax: str | UnsetType = UNSET
    definition: str | UnsetType = UNSET


class FlatTool(HostedFields, frozen=True, kw_only=True):
    """A tool. Functions, custom tools and shells are described flat here; a namespace holds some of them.

    `headers` and `authorization` are secrets: they are never shown again.
    """

    type: str
    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET
    defer_loading: bool | UnsetType | None = UNSET
    format: InputFormat | UnsetType | None = UNSET
    tools: list[FlatTool] | UnsetType = UNSET
    execution: str | UnsetType | None = UNSET
    environment: Field = UNSET
    headers: Field = UNSET
    authorization: Field = UNSET


class ChoiceObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one tool to call, or the few that may be."""

    type: str
    name: str | None = None
    namespace: str | None = None
    server_label: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[FlatTool] | None = None


ToolChoice = Literal["none", "auto", "required"] | ChoiceObject


class Offered(msgspec.Struct, frozen=True):
    """A tool that may be called: `tool` is what the model sees, the rest is what its client calls it."""

    tool: Tool
    kind: Kind = "function"
    name: str = ""
    namespace: str | None = None


class Source(msgspec.Struct, frozen=True):
    """Tools, the path of their list, and the namespace that holds them."""

    tools: Sequence[FlatTool]
    path: str
    namespace: FlatTool | None = None

    @property
    def space(self) -> str | None:
        """The namespace's name."""
        return self.namespace.name or None if self.namespace is not None else None


class Toolbox:
    """All tools of a conversation, by the names that the model knows. Raises InvalidRequest.

    What can't be run here, or by the client, is left out and told in `ignored`. Tools that came with the conversation's
    items (`later`) may be there more than once: the first counts.
    """

    def __init__(self, given: Sequence[FlatTool], later: Iterable[Source] = ()) -> None:
        self.offered: dict[str, Offered] = {}
        self.ignored: list[str] = []
        self._names: dict[tuple[str, str | None, str], str] = {}
        self._taken = {tool.name for tool in given if tool.type in ("function", "custom")}
        self._add(Source(given, "tools"))
        for source in later:
            self._add(source, once=False)

    def name_of(self, kind: Kind, name: str, namespace: str | None = None) -> str:
        """What the model calls a tool, also one that is not offered any more."""
        return self._names.get((kind, namespace, name)) or flat_name(name, namespace)

    def names_in(self, tools: Sequence[FlatTool], namespace: str | None = None) -> list[str]:
        """What the model calls these tools, as far as they may be called."""
        names: list[str] = []
        for tool in tools:
            if tool.type == "namespace":
                names += self.names_in(tool.tools or (), tool.name or None)
            elif kind := kind_of(tool):
                names.append(self.name_of(kind, tool.name or kind, namespace))
        return names

    def chosen(self, choice: ToolChoice | None, *, parallel: bool) -> tuple[tuple[Tool, ...], ToolUse, list[str]]:
        """The tools that take part, which of them may or must be called, and the paths of choices that can't be made.

        Raises InvalidRequest.
        """
        tools = tuple(offered.tool for offered in self.offered.values())
        if not tools and self.ignored and choice == "required":
            raise InvalidRequest("`tool_choice`: none of `tools` can be run here or by the client.", "tool_choice")
        if not isinstance(choice, ChoiceObject):
            return tools, use_by_word(choice, parallel, tools), []
        if not tools and not self.ignored:
            check_given(tools)
        if choice.type == "allowed_tools":
            return self._allowed(choice, parallel=parallel)
        return tools, ToolUse("named", self._named(choice), parallel=False), []

    def _add(self, source: Source, *, once: bool = True) -> None:
        for i, tool in enumerate(source.tools):
            path = f"{source.path}[{i}]"
            if tool.type == "namespace" and source.namespace is None:
                self._add(Source(tool.tools or (), f"{path}.tools", named(tool, path)), once=once)
            elif (kind := kind_of(tool)) is None:
                self.ignored.append(f"{path}.{tool.type}")
            else:
                self._offer(tool, kind, source, path, once=once)

    def _offer(self, tool: FlatTool, kind: Kind, source: Source, path: str, *, once: bool) -> None:
        """Add one that may be called."""
        name = checked_name(tool, path) if kind in ("function", "custom") else kind
        key = (kind, source.space, name)
        if key in self._names:
            if once:
                raise InvalidRequest(f"`{path}.name`: {name!r} is defined twice.", f"{path}.name")
            return
        if len(self.offered) == MAX_TOOLS:
            raise InvalidRequest(f"`tools`: at most {MAX_TOOLS} are allowed, with those of namespaces.", "tools")
        exact = once and source.namespace is None and kind in ("function", "custom")
        flat = self._free(flat_name(name, source.space), exact=exact)
        if flat in self.offered:
            raise InvalidRequest(f"`{path}.name`: {name!r} is defined twice.", f"{path}.name")
        self._names[key] = flat
        about = about_namespace(source) if tool is source.tools[0] else ""
        self.offered[flat] = Offered(to_tool(tool, kind, flat, about, path), kind, name, source.space)
        self.ignored += [f"{path}.{field}" for field in idle_fields(tool, kind)]

    def _free(self, wanted: str, *, exact: bool) -> str:
        """The name, or one like it that no other tool has. An `exact` one is what its client calls it."""
        name, number = wanted, 2
        while not exact and name in self._taken:
            name, number = f"{wanted[: MAX_NAME - 4]}_{number}", number + 1
        self._taken.add(name)
        return name

    def _allowed(self, choice: ChoiceObject, *, parallel: bool) -> tuple[tuple[Tool, ...], ToolUse, list[str]]:
        names: set[str] = set()
        ignored = []
        for i, tool in enumerate(choice.tools or ()):
            found = self._found(tool.type, tool.name or None)
            if not found and tool.type in ("function", "custom", "namespace"):
                raise InvalidRequest("`tool_choice.tools` must name some of `tools`.", "tool_choice.tools")
            names |= set(found)
            ignored += [] if found else [f"tool_choice.tools[{i}].{tool.type}"]
        if not names:
            message = "`tool_choice.tools` must name some of `tools`, and one that can be run here or by the client."
            raise InvalidRequest(message, "tool_choice.tools")
        tools = tuple(offered.tool for flat, offered in self.offered.items() if flat in names)
        return tools, ToolUse(choice.mode or "auto", parallel=parallel), ignored

    def _named(self, choice: ChoiceObject) -> str:
        """The one that is to be called, by the name that the model knows. Raises InvalidRequest."""
        if choice.type in ("function", "custom"):
            if choice.name is None:
                raise InvalidRequest("`tool_choice.name` is missing.", "tool_choice.name")
            if found := self._found(choice.type, choice.name, choice.namespace):
                return found[0]
            message = f"`tool_choice.name`: there is no {choice.type} {choice.name!r} in this request."
            raise InvalidRequest(message, "tool_choice.name")
        if found := self._found(choice.type, None):
            return found[0]
        raise InvalidRequest(
            f"`tool_choice.type`: a tool of type {choice.type[:64]!r} can't be called here: it is not among `tools`, "
            "or would have to be run by this server.",
            "tool_choice.type",
            "unsupported_parameter",
        )

    def _found(self, type_: str, name: str | None, namespace: str | None = None) -> list[str]:
        """Those of a kind and a name, the ones outside of namespaces first; or all of a namespace."""
        fits = [
            (offered.namespace is not None, flat)
            for flat, offered in self.offered.items()
            if (offered.namespace == name if type_ == "namespace" else offered.kind == type_)
            and (type_ == "namespace" or name in (None, offered.name))
            and namespace in (None, offered.namespace)
        ]
        return [flat for _, flat in sorted(fits, key=lambda fit: fit[0])]


def kind_of(tool: FlatTool) -> Kind | None:
    """How a client runs it; None for what only a server could run."""
    match tool.type:
        case "function" | "custom" | "local_shell" | "apply_patch":
            return tool.type
        case "shell" if not isinstance(tool.environment, dict) or tool.environment.get("type") == "local":
            return "shell"
        case "tool_search" if tool.execution == "client":
            return "tool_search"
    return None


def named(namespace: FlatTool, path: str) -> FlatTool:
    """A namespace that has a name. Raises InvalidRequest."""
    if not namespace.name:
        raise InvalidRequest(f"`{path}.name` is missing.", f"{path}.name")
    return namespace


def checked_name(tool: FlatTool, path: str) -> str:
    """The name of a function or a custom tool. Raises InvalidRequest."""
    if tool.name is None or tool.name is UNSET:
        raise InvalidRequest(f"`{path}.name` is missing.", f"{path}.name")
    check_name(tool.name, f"{path}.name")
    return tool.name


def flat_name(name: str, namespace: str | None) -> str:
    """One name for both, of a function's letters and length."""
    if namespace is None:
        return name
    whole = re.sub(r"[^a-zA-Z0-9_.-]", "_", f"{namespace.removesuffix('__')}__{name}")
    if len(whole) <= MAX_NAME:
        return whole
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()[:8]
    return f"{whole[: MAX_NAME - 9]}_{digest}"


def about_namespace(source: Source) -> str:
    """What is said of a namespace, for the first of its tools."""
    if source.namespace is None or not source.namespace.description:
        return ""
    return f"All tools named {flat_name('...', source.space)}: {source.namespace.description}"


def to_tool(tool: FlatTool, kind: Kind, name: str, about: str, path: str) -> Tool:
    """The function that stands for a tool. Raises InvalidRequest."""
    given = tool.description or DESCRIPTIONS.get(kind)
    description = "\n\n".join(text for text in (given, about) if text) or None
    match kind:
        case "function" | "tool_search":
            parameters = tool.parameters or None
            check_references(parameters or {}, f"{path}.parameters")
            return Tool(name, description, parameters, bool(tool.strict), param=f"{path}.parameters")
        case "custom":
            grammar = grammar_of(tool.format or None, f"{path}.format")
            return Tool(name, description, text_parameters(grammar), text=grammar, param=f"{path}.format")
    return Tool(name, description, PARAMETERS[kind])


def grammar_of(given: InputFormat | None, path: str) -> Grammar | None:
    """What the text of a custom tool may be; None for any. Raises InvalidRequest."""
    return None if given is None else to_grammar(given.type, given.syntax or None, given.definition or None, path, path)


STRINGS = {"type": "array", "items": {"type": "string"}}
DESCRIPTIONS: dict[str, str] = {
    "local_shell": "Runs a command on the user's computer and returns its output.",
    "shell": "Runs shell commands on the user's computer, one after the other, and returns their output.",
    "apply_patch": "Creates, updates or deletes one file.",
    "tool_search": "Finds further tools, which can be called afterwards.",
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "local_shell": object_of(
        {
            "command": {**STRINGS, "description": "The program and its arguments."},
            "working_directory": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "timeout_ms": {"type": "integer"},
        },
        "command",
    ),
    "shell": object_of(
        {
            "commands": {**STRINGS, "description": "Lines for the shell."},
            "timeout_ms": {"type": "integer"},
            "max_output_length": {"type": "integer"},
        },
        "commands",
    ),
    "apply_patch": object_of(
        {
            "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
            "path": {"type": "string"},
            "diff": {
                "type": "string",
                "description": "Lines that begin with '+', '-' or a blank, in hunks that begin with '@@'. A new file "
                "has only lines with '+'. Not for delete_file.",
            },
        },
        "type",
        "path",
    ),
}
"""What the calls of these have in the API, as the parameters of functions."""

SERVED = {"type", "name", "description", "parameters", "strict", "defer_loading", "format", "execution", "environment"}


def idle_fields(tool: FlatTool, kind: Kind) -> list[str]:
    """What is said of a tool that may be called and changes nothing."""
    given = [field for field in tool.__struct_fields__ if getattr(tool, field) not in (UNSET, None)]
    wrong = {"parameters", "strict"} if kind == "custom" else {"format"}
    names = dict(zip(tool.__struct_fields__, tool.__struct_encode_fields__, strict=True))
    return [names[field] for field in given if field not in SERVED or field in wrong]


def without_secrets(tools: Iterable[FlatTool]) -> list[FlatTool]:
    """Tools as they were given, without their secrets; what a function may have is there or null."""
    return [replace(tool, headers=UNSET, authorization=UNSET, **defaults(tool)) for tool in tools]


def defaults(tool: FlatTool) -> dict[str, None]:
    """What the API shows of every function."""
    if tool.type != "function":
        return {}
    return {name: None for name in ("description", "parameters", "strict") if getattr(tool, name) is UNSET}
