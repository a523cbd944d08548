"""Conversations as Anthropic's requests write them: turns of blocks."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import FunctionCall, Message
from mlx_server.schemas.openai_chat import VISION_ON_TEXT

BETWEEN_TURNS = "\n\n"
"""What stands between turns of one speaker that are made one, and between the texts of `system`."""

BLOCKS = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}


CacheControl = dict[str, Any]
"""A hint where a prompt will be used again. It changes nothing: what can be reused is, with or without it."""


class TextParam(msgspec.Struct, frozen=True):
    """A text of `system` or of a tool's result; other types are refused by name."""

    type: str
    text: str | None = None
    cache_control: CacheControl | None = None


class BlockParam(TextParam, frozen=True):
    """A block of a message, with the fields of all the types that are served."""

    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[TextParam] | None = None
    is_error: bool | None = None


class MessageParam(msgspec.Struct, frozen=True):
    """A turn, or a part of one: neighbours of one role are one turn."""

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
        if message.role not in BLOCKS:
            raise InvalidRequest(
                f"`{path}.role`: {message.role!r} is not supported; allowed are {', '.join(BLOCKS)}.", f"{path}.role"
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
        """A turn of the user or the system: texts, and results in front of them. Raises InvalidRequest."""
        texts = []
        for i, block in enumerate(blocks):
            where = f"{path}.content[{i}]"
            check_type(block, role, where)
            if block.type == "text":
                texts.append(to_text(block, where))
            elif texts:
                raise InvalidRequest(f"`{where}`: results of tools come before a turn's text.", where)
            else:
                self.messages.append(self._result(block, where))
        if texts or not blocks:
            self.check_answered(path)
            self.say(role, "".join(texts))

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
        self.messages[-1] = Message(
            last.role,
            joined(last.content, message.content) or "",
            reasoning=joined(last.reasoning, message.reasoning),
            tool_calls=message.tool_calls,
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
        text = result_text(block.content, f"{where}.content")
        # Chat templates know no failed results: the text says it.
        return Message(
            "tool",
            f"Error: {text}" if block.is_error else text,
            name=self._waiting.pop(id_),
            tool_call_id=id_,
        )


def check_type(block: TextParam, role: str, where: str) -> None:
    """Raises InvalidRequest for a block that this server, or this role, does not know."""
    if block.type == "image":
        raise InvalidRequest(VISION_ON_TEXT, where)
    if block.type not in BLOCKS[role]:
        allowed = ", ".join(map(repr, BLOCKS[role]))
        raise InvalidRequest(
            f"`{where}.type`: {block.type!r} is not supported here; allowed are {allowed}.",
            f"{where}.type",
        )


def to_text(block: TextParam, where: str) -> str:
    """A text block's text. Raises InvalidRequest for another block."""
    check_type(block, "system", where)
    return needed(block.text, f"{where}.text")


def result_text(content: str | list[TextParam] | None, where: str) -> str:
    """A result's text. Raises InvalidRequest for a block that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(to_text(block, f"{where}[{i}]") for i, block in enumerate(content))


Value = TypeVar("Value")


def needed(value: Value | None, where: str) -> Value:
    """What the client gave. Raises InvalidRequest if it gave nothing."""
    if value is None:
        raise InvalidRequest(f"`{where}` is missing.", where)
    return value


def joined(first: str | None, second: str | None) -> str | None:
    """Two turns' texts as one."""
    return BETWEEN_TURNS.join(text for text in (first, second) if text) or None
