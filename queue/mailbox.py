"""What a request's reader has not read yet: bounded, merging, never blocking the writer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from mlx_server.schemas.internal.messages import (
    Event,
    Failed,
    Finished,
    Part,
    Picture,
    Reasoning,
    Recording,
    Score,
    Segment,
    Sound,
    Text,
    ToolCall,
    Vector,
)

MERGE_ABOVE = 256
"""Unread events above which texts of the same sequence are merged: until then a reader gets one per token."""


class Mailbox:
    """Events of one ticket, for one reader.

    With `whole` the reader gets everything at once, at the end. Otherwise it gets what there is, as soon as there is
    something, and `limit_chars` bounds what may lie unread.
    """

    def __init__(self, *, whole: bool, limit_chars: int = 1 << 18) -> None:
        self._whole = whole
        self._limit_chars = limit_chars
        self._events: list[Event] = []
        self._unread_chars = 0
        self._merge_above = MERGE_ABOVE
        self._reader: asyncio.Future[None] | None = None
        self.closed = False

    @property
    def overflowed(self) -> bool:
        """The reader is so far behind that the request should be given up."""
        return not self._whole and self._unread_chars > self._limit_chars

    def put(self, event: Event) -> None:
        """Add an event; none may follow once the box is closed."""
        assert not self.closed
        self._events.append(event)
        self._unread_chars += size(event)
        if len(self._events) > self._merge_above:
            self._events = merge(self._events)
            self._merge_above = max(MERGE_ABOVE, 2 * len(self._events))
        if not self._whole:
            self._wake()

    def close(self) -> None:
        """No more events will come. Idempotent."""
        self.closed = True
        self._wake()

    def clear(self) -> None:
        """Forget what was not read: the request starts over."""
        self._events = []
        self._unread_chars = 0

    async def get(self) -> list[Event]:
        """All unread events in order; empty once the box is closed and read."""
        while not self.closed and (self._whole or not self._events):  # again, if it was cleared in the meantime
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        events = merge(self._events) if self._whole else self._events
        self.clear()
        return events

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


CHARS_OF_LOGPROB = 32
"""What one reported token counts in a mailbox, beside its text."""


def size(event: Event) -> int:
    """Roughly how many characters an event keeps."""
    match event:
        case Text():
            if not event.logprobs:
                return len(event.text) + len(event.ids)  # nearly always, and for every token
            reported = sum(1 + len(chosen.top) for chosen in event.logprobs)
            return len(event.text) + len(event.ids) + CHARS_OF_LOGPROB * reported
        case Reasoning():
            return len(event.text) + len(event.ids)
        case ToolCall():
            return len(event.arguments) + len(event.ids)
        case Vector():
            return len(event.values)
        # A request bounds its results, and nobody writes them faster for a slow reader.
        case Score() | Recording() | Segment() | Sound() | Picture() | Finished() | Failed():
            return 0


def merge(events: list[Event]) -> list[Event]:
    """The same events, with neighbouring parts of the same kind joined where they belong to one sequence."""
    merged: list[list[Event]] = []
    open_runs: dict[int, list[Event]] = {}
    for event in events:
        if not isinstance(event, Part | Finished):
            merged.append([event])
            continue
        run = open_runs.get(event.index)
        if run is not None and continues(run[-1], event):
            run.append(event)
        else:
            open_runs[event.index] = run = [event]
            merged.append(run)
    return [joined(run) for run in merged]


def continues(last: Event, event: Event) -> bool:
    """`event` adds to what `last` is a part of."""
    if isinstance(event, ToolCall):
        return isinstance(last, ToolCall) and last.call == event.call
    return type(last) is type(event) and not isinstance(event, Finished)


def joined(run: list[Event]) -> Event:
    """Parts of one kind as one."""
    first = run[0]
    if len(run) == 1 or not isinstance(first, Part):
        return first
    parts = [part for part in run if isinstance(part, Part)]
    totals: dict[str, Any] = {"tokens": sum(part.tokens for part in parts), "ids": ids_of(parts)}
    match first:
        case ToolCall():
            arguments = "".join(part.arguments for part in run if isinstance(part, ToolCall))
            return msgspec.structs.replace(first, arguments=arguments, **totals)
        case Reasoning():
            return msgspec.structs.replace(first, text=text_of(run), **totals)
        case Text():
            logprobs = tuple(chosen for part in run if isinstance(part, Text) for chosen in part.logprobs)
            return msgspec.structs.replace(first, text=text_of(run), logprobs=logprobs, **totals)


def ids_of(parts: list[Part]) -> tuple[int, ...]:
    """The ids of the parts' tokens, as far as they are given."""
    return tuple(id_ for part in parts for id_ in part.ids)


def text_of(run: list[Event]) -> str:
    """The parts' texts as one."""
    return "".join(part.text for part in run if isinstance(part, Text | Reasoning))
