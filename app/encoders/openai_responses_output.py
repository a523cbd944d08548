"""The items of a response as they grow: what each part of an answer adds, and the events that tell of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mlx_server.app.encoders.openai_base import chosen_logprobs
from mlx_server.schemas import openai_responses_events as ev
from mlx_server.schemas.messages import Part, Reasoning, Text, ToolCall
from mlx_server.schemas.openai_chat import ChosenLogprob
from mlx_server.schemas.openai_responses_items import (
    FunctionCallItem,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Status,
    new_id,
)
from mlx_server.schemas.sealed import seal

Number = Callable[[], int]
Events = list[ev.StreamEvent]


class OpenItem(Protocol):
    """An item that is not whole yet."""

    def takes(self, part: Part) -> bool:
        """Whether the part belongs to it."""

    def begin(self) -> Events:
        """What tells that it begins."""

    def add(self, part: Part) -> Events:
        """Take in a part."""

    def end(self) -> Events:
        """What tells that its content is whole."""

    def item(self, status: Status) -> Item:
        """The item."""


class OpenMessage:
    """Text, with the log-probabilities of its tokens."""

    def __init__(self, index: int, number: Number) -> None:
        self._at = new_id("msg"), index, 0
        self._number = number
        self._texts: list[str] = []
        self._logprobs: list[ChosenLogprob] = []

    def takes(self, part: Part) -> bool:
        """Any text."""
        return isinstance(part, Text)

    def begin(self) -> Events:
        """Its one part."""
        return [ev.PartAdded(self._number(), *self._at, OutputText(""))]

    def add(self, part: Part) -> Events:
        """A delta."""
        assert isinstance(part, Text)
        logprobs = chosen_logprobs(part.logprobs)
        self._texts.append(part.text)
        self._logprobs += logprobs
        return [ev.TextDelta(self._number(), *self._at, part.text, logprobs)]

    def end(self) -> Events:
        """The whole text, twice: so does OpenAI."""
        text = self._text()
        return [
            ev.TextDone(self._number(), *self._at, text.text, text.logprobs),
            ev.PartDone(self._number(), *self._at, text),
        ]

    def item(self, status: Status) -> MessageItem:
        """The message; one that has just begun has no content."""
        return MessageItem(self._at[0], "assistant", [self._text()] if status != "in_progress" else [], status)

    def _text(self) -> OutputText:
        return OutputText("".join(self._texts), logprobs=self._logprobs)


class OpenReasoning:
    """Thoughts, word for word; sealed as well for clients that ask for it."""

    def __init__(self, index: int, number: Number, *, seals: bool) -> None:
        self._at = new_id("rs"), index, 0
        self._number = number
        self._seals = seals
        self._texts: list[str] = []

    def takes(self, part: Part) -> bool:
        """Any thought."""
        return isinstance(part, Reasoning)

    def begin(self) -> Events:
        """Its one part."""
        return [ev.PartAdded(self._number(), *self._at, ReasoningText(""))]

    def add(self, part: Part) -> Events:
        """A delta."""
        assert isinstance(part, Reasoning)
        self._texts.append(part.text)
        return [ev.ReasoningDelta(self._number(), *self._at, part.text)]

    def end(self) -> Events:
        """All that was thought."""
        text = "".join(self._texts)
        return [
            ev.ReasoningDone(self._number(), *self._at, text),
            ev.PartDone(self._number(), *self._at, ReasoningText(text)),
        ]

    def item(self, status: Status) -> ReasoningItem:
        """The thoughts; an item that has just begun has none."""
        if status == "in_progress":
            return ReasoningItem(self._at[0], status=status)
        text = "".join(self._texts)
        sealed = seal(text) if self._seals else None
        return ReasoningItem(self._at[0], [], [ReasoningText(text)], sealed, status)


class OpenCall:
    """A function call."""

    def __init__(self, index: int, number: Number, first: ToolCall) -> None:
        self._at = new_id("fc"), index
        self._number = number
        self._call = first.call
        self._call_id, self._name = first.id or new_id("call"), first.name or ""
        self._arguments: list[str] = []

    def takes(self, part: Part) -> bool:
        """The parts of the same call."""
        return isinstance(part, ToolCall) and part.call == self._call

    def begin(self) -> Events:
        """Nothing but the item itself."""
        return []

    def add(self, part: Part) -> Events:
        """A delta, if there is something in it."""
        assert isinstance(part, ToolCall)
        self._arguments.append(part.arguments)
        return [ev.ArgumentsDelta(self._number(), *self._at, part.arguments)] if part.arguments else []

    def end(self) -> Events:
        """The whole arguments."""
        return [ev.ArgumentsDone(self._number(), *self._at, self._name, "".join(self._arguments))]

    def item(self, status: Status) -> FunctionCallItem:
        """The call."""
        return FunctionCallItem(self._at[0], self._call_id, self._name, "".join(self._arguments), status)


class Output:
    """All items of one response: those that are whole, and the one that grows. `number` numbers the events."""

    def __init__(self, number: Number, *, seals: bool) -> None:
        self.items: list[Item] = []
        """Those that are whole."""
        self._number = number
        self._seals = seals
        self._open: OpenItem | None = None

    def add(self, part: Part) -> Events:
        """Take in a part; one that says nothing changes nothing."""
        match part:
            case Text() if not part.text and not part.logprobs:
                return []
            case Reasoning() if not part.text:
                return []
        events: Events = []
        if self._open is None or not self._open.takes(part):
            events += self._close("completed")
            events += self._begin(part)
        assert self._open is not None
        return events + self._open.add(part)

    def end(self, status: Status) -> Events:
        """Nothing more comes; `status` is that of the last item. An answer without a word is an empty message."""
        events: Events = []
        if self._open is None and not self.items:
            events += self._begin(Text(0, 0, "", 0))
        return events + self._close(status)

    def cut(self) -> Events:
        """Nothing more comes, and nobody knows what would have come."""
        return self._close("incomplete")

    def _begin(self, part: Part) -> Events:
        index = len(self.items)
        match part:
            case Text():
                self._open = OpenMessage(index, self._number)
            case Reasoning():
                self._open = OpenReasoning(index, self._number, seals=self._seals)
            case ToolCall():
                self._open = OpenCall(index, self._number, part)
        return [ev.ItemAdded(self._number(), index, self._open.item("in_progress")), *self._open.begin()]

    def _close(self, status: Status) -> Events:
        if self._open is None:
            return []
        events = self._open.end()
        self.items.append(self._open.item(status))
        self._open = None
        return [*events, ev.ItemDone(self._number(), len(self.items) - 1, self.items[-1])]
