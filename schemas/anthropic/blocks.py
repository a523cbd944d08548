"""Blocks of Anthropic's messages, and what the model reads and sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from mlx_server.schemas.anthropic.answer import Block as AnswerBlock
from mlx_server.schemas.internal.documents import frame
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import NO_CALL, Document, Media, Message, Remote
from mlx_server.schemas.internal.media import MediaFields, MediaSource, check_fields, check_role, file_address, to_media
from mlx_server.schemas.parsing.field_tree import fields_of

CONTENT_FIELDS = {"text": ("text",), "image": ("source",), "document": ("source",), "search_result": ("source",)}
"""What blocks that say or show something do it with."""

SOURCE_FIELDS = {
    "base64": ("media_type", "data"),
    "text": ("media_type", "data"),
    "url": ("url",),
    "content": ("content",),
    "file": ("file_id",),
}
"""By the type of a document's source: the fields that count in it."""

RESULT_FIELDS = ("title", "url", "error_code", "stdout", "stderr", "return_code", "lines", "file_id")
"""What a result of Anthropic's own tools says beside its text."""

TOOL_CHANGES = {"tool_addition": "can be used from here on", "tool_removal": "can't be used any more"}

CacheControl = dict[str, Any]
"""A hint where a prompt will be used again."""


class TextParam(msgspec.Struct, frozen=True):
    """A text of `system`; other types are refused by name."""

    type: str
    text: str | None = None
    cache_control: CacheControl | None = None
    citations: Any = None


Inner = TypeVar("Inner")


class SourceParam(MediaSource, Generic[Inner], frozen=True):
    """Where a picture or a document is; `content` are a document's own blocks."""

    content: str | list[Inner] | None = None


class ToolChange(msgspec.Struct, frozen=True):
    """A tool that is offered or withdrawn in the middle of a conversation."""

    type: str
    name: str | None = None
    definition: dict[str, Any] | None = None
    server_name: str | None = None


class ShownParam(TextParam, Generic[Inner], frozen=True):
    """A block that says or shows something, or a part of what a tool gave; with the fields of all types.

    What stands in it is of a type of its own, so that the depth has an end.
    """

    source: SourceParam[Inner] | str | None = None
    title: str | None = None
    context: str | None = None
    content: str | Inner | list[Inner] | None = None
    tool_name: str | None = None
    tool_references: list[Inner] | None = None
    url: str | None = None
    page_age: str | None = None
    encrypted_content: str | None = None
    error_code: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    return_code: int | None = None
    lines: list[str] | None = None
    file_id: str | None = None


class LeafParam(ShownParam[None], frozen=True):
    """What stands in such a part."""


class InnerParam(ShownParam[LeafParam], frozen=True):
    """A part of what a tool gave, or of a document: a page, say, or a text."""


class BlockParam(ShownParam[InnerParam], frozen=True):
    """A block of a message, with the fields of all the types that are served."""

    passed_over: ClassVar = fields_of(*get_args(AnswerBlock)) | {"caller"}

    tool: ToolChange | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    is_error: bool | None = None
    server_name: str | None = None
    caller: Any = None
    tool_changes: Any = None
    to: Any = None
    trigger: Any = None
    mcp_server_name: Any = None
    tools: Any = None


Block = ShownParam[Any]
Content = str | Block | Sequence[Block] | None


class ContentBuilder:
    """A text as it grows, with pictures and documents at their places in it; `ignored` takes the paths of what is left
    out. Its methods raise InvalidRequest."""

    def __init__(self, ignored: list[str]) -> None:
        self.text = ""
        self.media: list[Media] = []
        self.documents: list[Document] = []
        self.marks: list[int] = []
        self._ignored = ignored

    def message(self, role: str, name: str | None = None, tool_call_id: str | None = None) -> Message:
        """The inside type."""
        return Message(
            role,
            self.text,
            name,
            tool_call_id=tool_call_id,
            media=tuple(self.media),
            documents=tuple(self.documents),
            marks=tuple(self.marks),
        )

    def mark(self, block: TextParam) -> None:
        """Mark the place behind a block, if its client does."""
        if block.cache_control is not None:
            self.marks.append(len(self.text))

    def add(self, block: Block, where: str) -> bool:
        """Take a block in; False if it is of another type than all that say or show something."""
        if block.type in CONTENT_FIELDS:
            check_fields(block, block.type, CONTENT_FIELDS, where)
        match block.type:
            case "text":
                self.text += needed(block.text, f"{where}.text")
            case "image":
                source = source_of(block, where)
                self.media.append(to_media("image", MediaFields(source=source), len(self.text), where))
            case "document":
                self._document(block, where)
            case "search_result":
                self._search_result(block, where)
            case "tool_reference":
                self.add_line(f"The tool {needed(block.tool_name, f'{where}.tool_name')} can be used.")
            case "tool_addition" | "tool_removal":
                self._tool_change(block, where)
            case "container_upload" | "browser_state":
                self._ignored.append(where)
            case _:
                return False
        return True

    def add_tool_result(self, content: Content, path: str) -> None:
        """Take in what a client's tool gave."""
        for block, where in blocks_of(content, path):
            if isinstance(block, str):
                self.text += block
            elif not self.add(block, where):
                raise unsupported(block.type, RESULT_BLOCKS, where)

    def add_search_result(self, content: Content, path: str) -> None:
        """Take in what one of Anthropic's own tools found; what only Anthropic can read is left out."""
        for block, where in blocks_of(content, path):
            if isinstance(block, str):
                self.add_line(block)
            elif not self.add(block, where):
                fields = {name: value for name in RESULT_FIELDS if (value := getattr(block, name)) not in (None, "")}
                self.add_line(block.text or "")
                self.add_line(msgspec.json.encode(fields).decode() if fields else "")
                self.add_search_result(block.content, f"{where}.content")
                self.add_search_result(block.tool_references, f"{where}.tool_references")

    def add_stray(self, result: ContentBuilder) -> None:
        """Take in what a tool gave whose call is not there."""
        self.add_line(NO_CALL)
        before = len(self.text)
        self.text += f"{result.text}\n"
        self.media += [replace(one, at=one.at + before, stray=True) for one in result.media]
        self.documents += [replace(one, at=one.at + before, stray=True) for one in result.documents]
        self.marks += [mark + before for mark in result.marks]

    def add_line(self, text: str) -> None:
        """Text that has lines of its own."""
        if text:
            self.text += f"{self._break()}{text}\n"

    def _break(self) -> str:
        return "" if not self.text or self.text.endswith("\n") else "\n"

    def _document(self, block: Block, where: str) -> None:
        source = source_of(block, where)
        if isinstance(block.citations, dict) and block.citations.get("enabled"):
            self._ignored.append(f"{where}.citations")
        before, after = frame("document", title=block.title, context=block.context)
        self.text += self._break() + before
        path = f"{where}.source"
        if source.type in SOURCE_FIELDS:
            check_fields(source, source.type, SOURCE_FIELDS, path)
        match source.type:
            case "text":
                self.text += needed(source.data, f"{path}.data")
            case "content":
                if source.content is None:
                    raise missing(f"{path}.content")
                self.add_tool_result(source.content, f"{path}.content")
            case "base64" | "url":
                self.documents.append(Document(remote(source, path), len(self.text), where))
            case "file":
                address = file_address(needed(source.file_id, f"{path}.file_id"))
                self.documents.append(Document(Remote(address), len(self.text), path))
            case other:
                message = f"`{path}.type`: {other[:64]!r} is not supported; allowed are {', '.join(SOURCE_FIELDS)}."
                raise InvalidRequest(message, f"{path}.type")
        self.text += after

    def _search_result(self, block: Block, where: str) -> None:
        source = block.source if isinstance(block.source, str) else None
        before, after = frame("search_result", title=block.title, source=source)
        self.text += self._break() + before
        self.add_tool_result(block.content, f"{where}.content")
        self.text += after

    def _tool_change(self, block: Block, where: str) -> None:
        tool = needed(block.tool if isinstance(block, BlockParam) else None, f"{where}.tool")
        name = tool.name or (tool.definition or {}).get("name")
        if not isinstance(name, str):
            self._ignored.append(where)
            return
        self.add_line(f"The tool {name} {TOOL_CHANGES[block.type]}.")
        if tool.definition is not None:
            self.add_line(msgspec.json.encode(tool.definition).decode())


RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference")


def blocks_of(content: Content, path: str) -> list[tuple[str | Block, str]]:
    """Content of any form as blocks, each with where it stands."""
    if content is None or isinstance(content, str | ShownParam):
        return [] if content is None else [(content, path)]
    return [(block, f"{path}[{i}]") for i, block in enumerate(content)]


def source_of(block: Block, where: str) -> SourceParam[Any]:
    """Where a picture or a document is. Raises InvalidRequest."""
    if block.source is None:
        raise missing(f"{where}.source")
    if isinstance(block.source, str):
        raise InvalidRequest(f"`{where}.source`: Expected `object`, got `str`.", f"{where}.source")
    return block.source


def remote(source: SourceParam[Any], path: str) -> Remote:
    """The address of a document. Raises InvalidRequest."""
    if source.type == "url":
        return Remote(needed(source.url, f"{path}.url").strip())
    media_type = needed(source.media_type, f"{path}.media_type")
    return Remote(f"data:{media_type};base64,{needed(source.data, f'{path}.data')}")


def check_type(type_: str, role: str, where: str) -> None:
    """Raises InvalidRequest for a block that this role does not have."""
    if type_ == "image":
        check_role(role, where)
    if type_ not in BLOCKS[role]:
        raise unsupported(type_, BLOCKS[role], where)


BLOCKS = {
    "user": ("text", "image", "document", "search_result", "tool_result", "container_upload", *TOOL_CHANGES),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "mcp_tool_use", "compaction"),
    "system": ("text", *TOOL_CHANGES),
}
"""By role; and the results of Anthropic's own tools, whatever they are called."""


def unsupported(type_: str, allowed: Sequence[str], where: str) -> InvalidRequest:
    """The refusal of a block that nobody here knows."""
    names = ", ".join(map(repr, allowed))
    return InvalidRequest(
        f"`{where}.type`: {type_[:64]!r} is not supported here; allowed are {names}.", f"{where}.type"
    )


Value = TypeVar("Value")


def needed(value: Value | None, where: str) -> Value:
    """What the client gave. Raises InvalidRequest if it gave nothing."""
    if value is None:
        raise missing(where)
    return value


def missing(where: str) -> InvalidRequest:
    """The refusal of a block without what it is there for."""
    return InvalidRequest(f"`{where}` is missing.", where)
