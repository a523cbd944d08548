"""The items of a response as they grow: what each part of an answer adds, and the events that tell of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace

from mlx_server.app.encoders.client_calls import read_call
from mlx_server.app.encoders.json_string import JsonString
from mlx_server.app.encoders.openai_base import chosen_logprobs
from mlx_server.schemas.internal.messages import Part, Reasoning, Text, ToolCall
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.openai import responses_events as ev
from mlx_server.schemas.openai.chat import ChosenLogprob
from mlx_server.schemas.openai.responses_items import (
    CustomCallItem,
    FunctionCallItem,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Status,
    new_id,
)
from mlx_server.schemas.openai.responses_tools import Offered

Number = Callable[[], int]
Events = list[ev.StreamEvent]


class OpenItem(Protocol):
    """An item that is not whole yet."""

    def takes(self, part: Part) -> bool:
        """Whether the part belongs to it."""

    def begin(self) -> Events:
        """What tells that it begins, as far as that is known yet."""

    def add(self, part: Part) -> Events:
        """Take in a part."""

    def end(self) -> Events:
        """What tells that its content is whole; `item` is what it will stay from now on."""

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
        """The item, and its one part."""
        return [
            ev.ItemAdded(self._number(), self._at[1], self.item("in_progress")),
            ev.PartAdded(self._number(), *self._at, OutputText("")),
        ]

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
        """The item, and its one part."""
        return [
            ev.ItemAdded(self._number(), self._at[1], self.item("in_progress")),
            ev.PartAdded(self._number(), *self._at, ReasoningText("")),
        ]

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


class OpenToolCall(ABC):
    """A call whose item is told when it begins. `_at` is the item's id, and its place in the response."""

    def __init__(self, kind: str, index: int, number: Number, first: ToolCall) -> None:
        """`kind` begins the item's id."""
        self._at = new_id(kind), index
        self._number = number
        self._call = first.call
        self._call_id = first.id or new_id("call")

    def takes(self, part: Part) -> bool:
        """The parts of the same call."""
        return isinstance(part, ToolCall) and part.call == self._call

    def begin(self) -> Events:
        """Nothing but the item itself."""
        return [ev.ItemAdded(self._number(), self._at[1], self.item("in_progress"))]

    @abstractmethod
    def item(self, status: Status) -> Item:
        """The call."""


class OpenCall(OpenToolCall):
    """A function call. One of a function that was not offered has the name that the model said."""

    def __init__(self, index: int, number: Number, first: ToolCall, offered: Offered | None) -> None:
        super().__init__("fc", index, number, first)
        self._name = offered.name if offered is not None else first.name or ""
        self._namespace = (offered.namespace if offered is not None else None) or UNSET
        self._arguments: list[str] = []

    def add(self, part: Part) -> Events:
        """A delta, if there is something in it."""
        assert isinstance(part, ToolCall)
        self._arguments.append(part.arguments)
        return [ev.ArgumentsDelta(self._number(), *self._at, part.arguments)] if part.arguments else []

    def end(self) -> Events:
        """The whole arguments."""
        return [ev.ArgumentsDone(self._number(), *self._at, self._name, "".join(self._arguments))]

    def item(self, status: Status) -> Item:
        """The call."""
        arguments = "".join(self._arguments)
        return FunctionCallItem(self._at[0], self._call_id, self._name, arguments, self._namespace, status)


class OpenCustomCall(OpenToolCall):
    """A call of a custom tool: the text in its arguments is told as it is written."""

    def __init__(self, index: int, number: Number, first: ToolCall, offered: Offered) -> None:
        super().__init__("ctc", index, number, first)
        self._offered = offered
        self._reader = JsonString("input")
        self._input: list[str] = []

    def add(self, part: Part) -> Events:
        """A delta, if there is something in it."""
        assert isinstance(part, ToolCall)
        return self._delta(self._reader.feed(part.arguments))

    def end(self) -> Events:
        """The whole text."""
        events = self._delta(self._reader.end())
        return [*events, ev.InputDone(self._number(), *self._at, "".join(self._input))]

    def item(self, status: Status) -> Item:
        """The call."""
        text, namespace = "".join(self._input), self._offered.namespace or UNSET
        return CustomCallItem(self._at[0], self._call_id, self._offered.name, text, namespace, status)

    def _delta(self, text: str) -> Events:
        self._input.append(text)
        return [ev.InputDelta(self._number(), *self._at, text)] if text else []


class OpenClientCall:
    """A call of one of the API's own tools that clients run: its item is told once all of it is there.

    What can't be read as such a call is told as a function call, as the model wrote it.
    """

    def __init__(self, index: int, number: Number, first: ToolCall, offered: Offered) -> None:
        self._at = index
        self._number = number
        self._kind = offered.kind
        self._first = first
        self._call_id = first.id or new_id("call")
        self._raw = OpenCall(index, number, first, offered)
        self._arguments: list[str] = []
        self._read: Item | None = None

    def takes(self, part: Part) -> bool:
        """The parts of the same call."""
        return self._raw.takes(part)

    def begin(self) -> Events:
        """Nobody knows yet."""
        return []

    def add(self, part: Part) -> Events:
        """Nothing yet."""
        assert isinstance(part, ToolCall)
        self._arguments.append(part.arguments)
        return []

    def end(self) -> Events:
        """The item, or all that is told of a function call."""
        arguments = "".join(self._arguments)
        self._read = read_call(self._kind, self._call_id, arguments)
        if self._read is not None:
            return [ev.ItemAdded(self._number(), self._at, begun(self._read))]
        whole = replace(self._first, id=self._call_id, arguments=arguments)
        return [*self._raw.begin(), *self._raw.add(whole), *self._raw.end()]

    def item(self, status: Status) -> Item:
        """The call; one that could be read is whole, whatever came after it."""
        return self._read if self._read is not None else self._raw.item(status)


def begun(item: Item) -> Item:
    """The same item as it began."""
    return replace(item, status="in_progress")


class Output:
    """All items of one response: those that are whole, and the one that grows. `number` numbers the events.

    `tools` are those that were offered, by the names that the model knows.
    """

    def __init__(self, number: Number, tools: Mapping[str, Offered], *, seals: bool) -> None:
        self.items: list[Item] = []
        """Those that are whole."""
        self._number = number
        self._tools = tools
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
                self._open = open_call(index, self._number, part, self._tools.get(part.name or ""))
        return self._open.begin()

    def _close(self, status: Status) -> Events:
        if self._open is None:
            return []
        events = self._open.end()
        self.items.append(self._open.item(status))
        self._open = None
        return [*events, ev.ItemDone(self._number(), len(self.items) - 1, self.items[-1])]


def open_call(index: int, number: Number, first: ToolCall, offered: Offered | None) -> OpenItem:
    """A call, as the client knows its tool."""
    if offered is None or offered.kind == "function":
        return OpenCall(index, number, first, offered)
    return (OpenCustomCall if offered.kind == "custom" else OpenClientCall)(index, number, first, offered)
