"""Conversations as Anthropic's requests write them: turns of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, get_args

import msgspec

from mlx_server.schemas.anthropic_answer import AssistantMessage, Block
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import FunctionCall, Media, Message
from mlx_server.schemas.media import MediaFields, MediaSource, check_fields, check_role, to_media
from mlx_server.schemas.shape import fields_of

BETWEEN_TURNS = "\n\n"
"""What stands between turns of one speaker that are made one, and between the texts of `system`."""

ROLES = ("user", "assistant", "system")
BLOCKS = {
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
    "tool_result": ("text", "image"),
}
"""By role, and those in a tool's result."""

SHOWN_FIELDS = {"text": ("text",), "image": ("source",)}
"""What blocks that say or show something do it with."""

FAILED = "Error: "


CacheControl = dict[str, Any]
"""A hint where a prompt will be used again. It changes nothing: what can be reused is, with or without it."""


class TextParam(msgspec.Struct, frozen=True):
    """A text of `system`; other types are refused by name."""

    type: str
    text: str | None = None
    cache_control: CacheControl | None = None


class ResultParam(TextParam, frozen=True):
    """A text or a picture that a tool gave."""

    source: MediaSource | None = None


class BlockParam(ResultParam, frozen=True):
    """A block of a message, with the fields of all the types that are served."""

    passed_over: ClassVar = fields_of(*get_args(Block)) | {"caller"}

    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[ResultParam] | None = None
    is_error: bool | None = None


class MessageParam(msgspec.Struct, frozen=True):
    """A turn, or a part of one: neighbours of one role are one turn. Clients send whole answers back as turns."""

    passed_over: ClassVar = fields_of(AssistantMessage)

    role: str
    content: str | list[BlockParam]


def to_messages(given: list[MessageParam], system: str | list[TextParam] | None) -> tuple[Message, ...]:
    """The inside messages. Raises InvalidRequest, also for calls and results that don't belong together."""
    if not given:
        raise InvalidRequest("`messages` is empty: at least one message is needed.", "messages")
    conversation = Conversation()
    if system:
        parts = [system] if isinstance(system, str) else [to_text(b, f"system[{i}]") for i, b in enumerate(system)]
        conversation.say("system", BETWEEN_TURNS.join(parts))
    for i, message in enumerate(given):
        path = f"messages[{i}]"
        if message.role not in ROLES:
            raise InvalidRequest(
                f"`{path}.role`: {message.role!r} is not supported; allowed are {', '.join(ROLES)}.", f"{path}.role"
            )
        if isinstance(message.content, str):
            conversation.check_answered(path)
            conversation.say(message.role, message.content)
        elif message.role == "assistant":
            conversation.check_answered(path)
            conversation.answer(message.content, path)
        else:
            conversation.take(message.role, message.content, path)
    conversation.check_answered("messages")
    return tuple(conversation.messages)


class Conversation:
    """Inside messages as they grow, and the calls that wait for their results."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._waiting: dict[str, str] = {}
        """Names of the tools that were called and have not answered, by the calls' ids."""

    def say(self, role: str, text: str) -> None:
        """Plain text of one speaker."""
        self._add(Message(role, text))

    def take(self, role: str, blocks: list[BlockParam], path: str) -> None:
        """A turn of the user or the system: texts and pictures, and results in front of them. Raises InvalidRequest."""
        results = next((i for i, block in enumerate(blocks) if block.type != "tool_result"), len(blocks))
        for i, block in enumerate(blocks):
            where = f"{path}.content[{i}]"
            check_type(block, role, where)
            if i < results:
                self.messages.append(self._result(block, where))
            elif block.type == "tool_result":
                raise InvalidRequest(f"`{where}`: results of tools come before a turn's text and pictures.", where)
        if results < len(blocks) or not blocks:
            self.check_answered(path)
            text, media = to_content(blocks[results:], f"{path}.content", results)
            self._add(Message(role, text, media=media))

    def answer(self, blocks: list[BlockParam], path: str) -> None:
        """A turn of the assistant: texts, reasoning and calls. Raises InvalidRequest."""
        texts, thoughts, calls = [], [], []
        for i, block in enumerate(blocks):
            where = f"{path}.content[{i}]"
            check_type(block, "assistant", where)
            match block.type:
                case "text":
                    texts.append(to_text(block, where))
                case "thinking":
                    thoughts.append(needed(block.thinking, f"{where}.thinking"))
                case "tool_use":
                    calls.append(self._call(block, where))
                case _:
                    pass  # redacted thinking: nobody but its maker can read it
        self._add(Message("assistant", "".join(texts), reasoning="".join(thoughts) or None, tool_calls=tuple(calls)))

    def check_answered(self, path: str) -> None:
        """Raises InvalidRequest if a call has no result by now."""
        if self._waiting:
            ids = ", ".join(map(repr, self._waiting))
            raise InvalidRequest(f"`{path}`: no tool_result block follows the tool_use of {ids}.", path)

    def _add(self, message: Message) -> None:
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != message.role or last.role == "tool" or last.tool_calls:
            self.messages.append(message)
            return
        content = joined(last.content, message.content) or ""
        self.messages[-1] = Message(
            last.role,
            content,
            reasoning=joined(last.reasoning, message.reasoning),
            tool_calls=message.tool_calls,
            media=last.media + moved(message.media, len(content) - len(message.content)),
        )

    def _call(self, block: BlockParam, where: str) -> FunctionCall:
        id_ = needed(block.id, f"{where}.id")
        name = needed(block.name, f"{where}.name")
        arguments = needed(block.input, f"{where}.input")
        if id_ in self._waiting:
            raise InvalidRequest(f"`{where}.id`: {id_!r} stands for another call already.", f"{where}.id")
        self._waiting[id_] = name
        return FunctionCall(id_, name, msgspec.json.encode(arguments).decode())

    def _result(self, block: BlockParam, where: str) -> Message:
        id_ = needed(block.tool_use_id, f"{where}.tool_use_id")
        if id_ not in self._waiting:
            raise InvalidRequest(
                f"`{where}.tool_use_id`: the assistant's turn before this one has no unanswered tool_use {id_!r}.",
                f"{where}.tool_use_id",
            )
        content = block.content or ""
        text, media = (content, ()) if isinstance(content, str) else to_content(content, f"{where}.content")
        # Chat templates know no failed results: the text says it.
        said = FAILED if block.is_error else ""
        return Message(
            "tool", said + text, name=self._waiting.pop(id_), tool_call_id=id_, media=moved(media, len(said))
        )


def check_type(block: TextParam, role: str, where: str) -> None:
    """Raises InvalidRequest for a block that this server, or this role, does not know."""
    if block.type == "image":
        check_role(role, where)
    if block.type not in BLOCKS[role]:
        allowed = ", ".join(map(repr, BLOCKS[role]))
        raise InvalidRequest(
            f"`{where}.type`: {block.type!r} is not supported here; allowed are {allowed}.",
            f"{where}.type",
        )


def to_text(block: TextParam, where: str) -> str:
    """A text block's text. Raises InvalidRequest for another block."""
    check_type(block, "system", where)
    check_fields(block, "text", SHOWN_FIELDS, where)
    return needed(block.text, f"{where}.text")


def to_content(blocks: Sequence[ResultParam], path: str, first: int = 0) -> tuple[str, tuple[Media, ...]]:
    """The text of blocks, and the pictures in it; `first` is the first one's index. Raises InvalidRequest."""
    text, media = "", []
    for i, block in enumerate(blocks, first):
        where = f"{path}[{i}]"
        if block.type in SHOWN_FIELDS:
            check_fields(block, block.type, SHOWN_FIELDS, where)
        if block.type == "image":
            needed(block.source, f"{where}.source")
            media.append(to_media("image", MediaFields(source=block.source), len(text), where))
        else:
            check_type(block, "tool_result", where)
            text += needed(block.text, f"{where}.text")
    return text, tuple(media)


def moved(media: tuple[Media, ...], by: int) -> tuple[Media, ...]:
    """Pictures in a text that so many characters have come before."""
    return tuple(msgspec.structs.replace(one, at=one.at + by) for one in media) if by else media


Value = TypeVar("Value")


def needed(value: Value | None, where: str) -> Value:
    """What the client gave. Raises InvalidRequest if it gave nothing."""
    if value is None:
        raise InvalidRequest(f"`{where}` is missing.", where)
    return value


def joined(first: str | None, second: str | None) -> str | None:
    """Two turns' texts as one."""
    return BETWEEN_TURNS.join(text for text in (first, second) if text) or None
