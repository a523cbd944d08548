"""Conversations as Anthropic's requests write them: turns of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from mlx_server.schemas.anthropic.answer import AssistantMessage
from mlx_server.schemas.anthropic.blocks import (
    CONTENT_FIELDS,
    BlockParam,
    ContentBuilder,
    TextParam,
    check_type,
    missing,
    needed,
)
from mlx_server.schemas.internal.billing_line import is_billing_line, without_billing_line
from mlx_server.schemas.internal.efforts import Effort
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import FunctionCall, Message
from mlx_server.schemas.internal.media import check_fields
from mlx_server.schemas.internal.sealed import unsealed
from mlx_server.schemas.parsing.field_tree import fields_of

BETWEEN_TURNS = "\n\n"
"""What stands between turns of one speaker that are made one, and between the texts of `system`."""

ROLES = ("user", "assistant", "system", "developer")
SYSTEM_ROLES = ("system", "developer")
NEXT_USER = "next_user_message"
CLEARS = (NEXT_USER, "never")
"""Until when a turn of the system is shown: only as long as no turn of the user follows, or always."""

RESULT = "tool_result"
FAILED = "Error: "
NO_RESULT = "No result of this call is known: it was interrupted."
UNREAD = ("fallback", "mcp_tool_listing", "container_upload")
"""Blocks of an answer that say nothing to a model."""


class TurnConfig(msgspec.Struct, frozen=True):
    """How much effort the model makes from a turn of the system on."""

    effort: Effort | None = None


class MessageParam(msgspec.Struct, frozen=True):
    """A turn, or a part of one: neighbours of one role are one turn. Clients send whole answers back as turns. Only a
    turn of the system that sets an effort needs no content."""

    passed_over: ClassVar = fields_of(AssistantMessage)

    role: str
    content: str | list[BlockParam] | None = None
    clear_at: Annotated[str | None, Meta(extra_json_schema={"examples": list(CLEARS)})] = None
    output_config: TurnConfig | None = None

    @property
    def of_system(self) -> bool:
        """Whether the system speaks; proxies pass on what OpenAI's clients call it."""
        return self.role in SYSTEM_ROLES

    @property
    def effort(self) -> str | None:
        """How much effort is asked for from here on."""
        return self.output_config.effort if self.of_system and self.output_config is not None else None

    def without_effect(self, path: str) -> list[str]:
        """The paths of what changes nothing in a turn of this role, which stands at `path`."""
        if self.of_system:
            return [] if self.clear_at in (None, *CLEARS) else [f"{path}.clear_at"]
        return [f"{path}.{name}" for name in ("clear_at", "output_config") if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True)
class Spoken:
    """The inside messages, and the paths of what changes nothing in them."""

    messages: tuple[Message, ...]
    ignored: tuple[str, ...]


def to_messages(given: list[MessageParam], system: str | list[TextParam] | None) -> Spoken:
    """The inside messages. Raises InvalidRequest.

    Calls without a result get one that says so, results stand behind their calls whatever a turn says before them, and
    a last turn of the assistant that says nothing is none.
    """
    if not given:
        raise InvalidRequest("`messages` is empty: at least one message is needed.", "messages")
    conversation = Conversation()
    conversation.begin(system)
    last_role = ""
    last_user = max((i for i, message in enumerate(given) if message.role == "user"), default=0)
    for i, message in enumerate(given):
        path = f"messages[{i}]"
        if message.role not in ROLES:
            raise InvalidRequest(
                f"`{path}.role`: {message.role[:64]!r} is not supported; allowed are {', '.join(ROLES)}.",
                f"{path}.role",
            )
        conversation.leave_out(message.without_effect(path))
        content = message.content or ""
        if message.content is None and message.effort is None:
            raise missing(f"{path}.content")
        cleared = message.clear_at == NEXT_USER and i < last_user
        if message.of_system and (cleared or not content):
            continue
        role = "system" if message.of_system else message.role
        if role == "assistant" != last_role:
            conversation.settle()
        last_role = role
        if isinstance(content, str):
            conversation.say(role, content, path)
        elif role == "assistant":
            conversation.answer(content, f"{path}.content")
        else:
            conversation.take(role, content, f"{path}.content")
    return conversation.end()


def effort_in(given: list[MessageParam]) -> tuple[str, str] | None:
    """The last effort that a turn of the system asks for, and the path of its field."""
    for i, message in reversed(list(enumerate(given))):
        if message.effort is not None:
            return message.effort, f"messages[{i}].output_config.effort"
    return None


@dataclass(slots=True)
class Answer:
    """A turn of the assistant as it grows."""

    text: str = ""
    thoughts: str = ""
    calls: list[FunctionCall] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Nothing has been said."""
        return not (self.text or self.thoughts or self.calls)

    def message(self) -> Message:
        """The inside type."""
        return Message(
            "assistant",
            self.text,
            reasoning=self.thoughts or None,
            tool_calls=tuple(self.calls),
            marks=tuple(self.marks),
        )


class Conversation:
    """Inside messages as they grow, and the calls that wait for their results."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._ignored: list[str] = []
        self._waiting: dict[str, str] = {}
        """Names of the tools that were called and have not answered, by the calls' ids."""
        self._place = 0
        """Where the next result stands: behind the latest calls and those of their results that are there."""

    def begin(self, system: str | list[TextParam] | None) -> None:
        """The system prompt. Raises InvalidRequest."""
        given = [TextParam("text", system)] if isinstance(system, str) else system or []
        builder = ContentBuilder(self._ignored)
        for i, block in enumerate(given):
            where = f"system[{i}]"
            if text := self._of_system(to_text(block, where), "system" if isinstance(system, str) else where):
                builder.text += (BETWEEN_TURNS if builder.text else "") + text
            builder.mark(block)
        if builder.text:
            self._add(builder.message("system"))

    def say(self, role: str, text: str, path: str = "") -> None:
        """Plain text of one speaker; `path` is where it stands in the request."""
        rest = self._of_system(text, path) if role == "system" else text
        if rest or not text:
            self._add(Message(role, rest))

    def take(self, role: str, blocks: list[BlockParam], path: str) -> None:
        """A turn of the user or the system: texts, pictures and documents, and results of tools. Raises
        InvalidRequest."""
        builder, elsewhere = ContentBuilder(self._ignored), 0
        for i, block in enumerate(blocks):
            where = f"{path}[{i}]"
            if role == "system" and block.type == "text" and block.text:
                block = replace(block, text=self._of_system(block.text, where))
                elsewhere += not block.text
            if role == "user" and is_result(block.type):
                elsewhere += 1
                self._result(block, builder, where)
            else:
                check_type(block.type, role, where)
                builder.add(block, where)
                builder.mark(block)
        if builder.text or builder.media or not elsewhere:
            self._add(builder.message(role))

    def answer(self, blocks: list[BlockParam], path: str) -> None:
        """A turn of the assistant: texts, reasoning and calls; and what Anthropic's own tools found meanwhile. Raises
        InvalidRequest."""
        turn, said = Answer(), False
        for i, block in enumerate(blocks):
            where = f"{path}[{i}]"
            match block.type:
                case "text":
                    turn.text += to_text(block, where)
                case "thinking" | "redacted_thinking":
                    turn.thoughts += thoughts_of(block, where)
                case "tool_use" | "server_tool_use" | "mcp_tool_use":
                    turn.calls.append(self._call(block, where))
                case "compaction" if isinstance(block.content, str):
                    turn, said = Answer(), True
                    self._start_over(block.content)
                case "compaction":
                    self._ignored.append(where)
                case kind if is_result(kind) and kind != RESULT:
                    if not turn.empty:
                        self._add(turn.message())
                    turn, said = Answer(), True
                    self._found(block, where)
                case kind if kind in UNREAD:
                    self._ignored.append(where)
                case kind:
                    check_type(kind, "assistant", where)
            if block.cache_control is not None:
                turn.marks.append(len(turn.text))
        if not (said and turn.empty):
            self._add(turn.message())

    def leave_out(self, paths: list[str]) -> None:
        """Note what changes nothing."""
        self._ignored += paths

    def settle(self) -> None:
        """Say of every call without a result that there is none."""
        for id_, name in self._waiting.items():
            self._insert(Message("tool", NO_RESULT, name=name, tool_call_id=id_))
        self._waiting.clear()

    def end(self) -> Spoken:
        """All of it. Raises InvalidRequest if nothing was said."""
        self.settle()
        last = self._messages[-1] if self._messages else None
        if last is not None and last.role == "assistant" and not last.content.strip():
            self._messages.pop()
        if not self._messages:
            raise InvalidRequest("`messages` has nothing but an empty turn.", "messages")
        return Spoken(tuple(self._messages), tuple(self._ignored))

    def _of_system(self, text: str, path: str) -> str:
        """A text of the system without what Claude Code tells Anthropic there; it is named if there is nothing else."""
        if is_billing_line(text):
            self._ignored.append(path)
        return without_billing_line(text)

    def _add(self, message: Message) -> None:
        last = self._messages[-1] if self._messages else None
        if last is not None and last.role == message.role != "tool":
            self._messages[-1] = merged(last, message)
        else:
            self._messages.append(message)
        if message.tool_calls:
            self._place = len(self._messages)

    def _insert(self, result: Message) -> None:
        self._messages.insert(self._place, result)
        self._place += 1

    def _start_over(self, summary: str) -> None:
        """What was said before stands in a summary: only what the system says comes before that."""
        self._messages = list(takewhile(lambda message: message.role == "system", self._messages))
        self._waiting.clear()
        self.say("user", summary)

    def _call(self, block: BlockParam, where: str) -> FunctionCall:
        id_ = needed(block.id, f"{where}.id")
        name = needed(block.name, f"{where}.name")
        arguments = needed(block.input, f"{where}.input")
        if id_ in self._waiting:
            raise InvalidRequest(f"`{where}.id`: {id_!r} stands for another call already.", f"{where}.id")
        self._waiting[id_] = name
        return FunctionCall(id_, name, msgspec.json.encode(arguments).decode())

    def _result(self, block: BlockParam, builder: ContentBuilder, where: str) -> None:
        """Have a result stand behind its call; one whose call is missing is noted in `builder`."""
        id_ = needed(block.tool_use_id, f"{where}.tool_use_id")
        name = self._waiting.pop(id_, None)
        found = ContentBuilder(self._ignored)
        # Chat templates know no failed results: the text says it.
        found.text += FAILED if block.is_error else ""
        if block.type == RESULT:
            found.add_tool_result(block.content, f"{where}.content")
        else:
            found.add_search_result(block.content, f"{where}.content")
        found.mark(block)
        if name is None:
            builder.add_stray(found)
        else:
            self._insert(found.message("tool", name=name, tool_call_id=id_))

    def _found(self, block: BlockParam, where: str) -> None:
        """What one of Anthropic's own tools found, if its call is there."""
        if block.tool_use_id in self._waiting:
            self._result(block, ContentBuilder(self._ignored), where)
        else:
            self._ignored.append(where)


def is_result(type_: str) -> bool:
    """Whether a block is what a tool gave: a client's, or one of Anthropic's many."""
    return type_ == RESULT or type_.endswith(f"_{RESULT}")


def thoughts_of(block: BlockParam, where: str) -> str:
    """Reasoning that comes back; what was not shown is in its seal. Nothing for what another server sealed. Raises
    InvalidRequest."""
    sealed = block.data if block.type == "redacted_thinking" else block.signature
    hidden = unsealed(sealed) if sealed is not None else None
    if block.type == "redacted_thinking" or (not block.thinking and hidden):
        return hidden or ""
    return needed(block.thinking, f"{where}.thinking")


def to_text(block: TextParam, where: str) -> str:
    """A text block's text. Raises InvalidRequest for another block."""
    check_type(block.type, "system", where)
    check_fields(block, "text", CONTENT_FIELDS, where)
    return needed(block.text, f"{where}.text")


def merged(first: Message, second: Message) -> Message:
    """Two turns of one speaker as one."""
    content = joined(first.content, second.content) or ""
    moved = len(content) - len(second.content)
    return Message(
        first.role,
        content,
        reasoning=joined(first.reasoning, second.reasoning),
        tool_calls=first.tool_calls + second.tool_calls,
        media=first.media + tuple(replace(one, at=one.at + moved) for one in second.media),
        documents=first.documents + tuple(replace(one, at=one.at + moved) for one in second.documents),
        marks=first.marks + tuple(mark + moved for mark in second.marks),
    )


def joined(first: str | None, second: str | None) -> str | None:
    """Two turns' texts as one."""
    return BETWEEN_TURNS.join(text for text in (first, second) if text) or None
