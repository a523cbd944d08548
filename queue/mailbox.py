"""What a request's reader has not read yet: bounded, merging, never blocking the writer."""

from __future__ import annotations

import asyncio

from mlx_server.schemas.messages import Event, Text

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
        self._readable = asyncio.Event()
        self.closed = False

    @property
    def overflowed(self) -> bool:
        """The reader is so far behind that the request should be given up."""
        return not self._whole and self._unread_chars > self._limit_chars

    def put(self, event: Event) -> None:
        """Add an event; none may follow once the box is closed."""
        assert not self.closed
        self._events.append(event)
        if isinstance(event, Text):
            self._unread_chars += len(event.text)
        if len(self._events) > self._merge_above:
            self._events = merge(self._events)
            self._merge_above = max(MERGE_ABOVE, 2 * len(self._events))
        if not self._whole:
            self._readable.set()

    def close(self) -> None:
        """No more events will come. Idempotent."""
        self.closed = True
        self._readable.set()

    def clear(self) -> None:
        """Forget what was not read: the request starts over."""
        self._events = []
        self._unread_chars = 0
        self._readable.clear()

    async def get(self) -> list[Event]:
        """All unread events in order; empty once the box is closed and read."""
        while not self._readable.is_set():  # again, if it was cleared before this reader could run
            await self._readable.wait()
        events = merge(self._events) if self._whole else self._events
        self._events = []
        self._unread_chars = 0
        if not self.closed:
            self._readable.clear()
        return events


def merge(events: list[Event]) -> list[Event]:
    """The same events with the texts of each sequence joined into its first one; other events keep their order."""
    texts: dict[int, list[Text]] = {}
    for event in events:
        if isinstance(event, Text):
            texts.setdefault(event.index, []).append(event)
    joined: list[Event] = [
        Text(parts[0].ticket, index, "".join(p.text for p in parts), sum(p.tokens for p in parts))
        for index, parts in texts.items()
    ]
    return joined + [event for event in events if not isinstance(event, Text)]
