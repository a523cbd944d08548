"""Calls whose arguments are JSON behind a head that names the function, read while they are written."""

from __future__ import annotations

import re

from mlx_server.workers.engine.calls import Calls, Rest
from mlx_server.workers.engine.json_extent import Extent
from mlx_server.workers.engine.marks import Marks


class HeadedCalls:
    """One block of calls up to the mark `end`, or up to `leave`, which breaks a block off."""

    def __init__(self, calls: Calls, head: re.Pattern[str], end: str, leave: str | None = None) -> None:
        self._calls = calls
        self._head = head
        self._marks = Marks(mark for mark in (end, leave) if mark)
        self._leave = leave
        self._text = ""
        self._call: int | None = None
        self._called = False
        self._extent: Extent | None = None

    def feed(self, text: str) -> Rest | None:
        """Read on; None while the block goes on."""
        self._text += text
        while self._text and not self._calls.complete:
            if self._extent is not None:
                self._read_arguments(self._extent)
                continue
            head = self._head.search(self._text)
            mark = self._marks.find(self._text)
            if mark is not None and (head is None or mark[0] < head.start()):
                return self._ended(*mark)
            if head is None:
                return None
            if head.group(1).strip() not in self._calls.names:
                return Rest(self._text, failed=not self._called)
            self._call = self._calls.begin(head.group(1).strip())
            self._called = True
            self._text = self._text[head.end() :]
            self._extent = Extent("{")
        return Rest("", failed=False) if self._calls.complete else None

    def flush(self) -> Rest:
        """The text has ended inside the block. After a call at most a part of the next one's head is left."""
        return Rest("", failed=False) if self._called else Rest(self._text, failed=True)

    def _ended(self, at: int, mark: str) -> Rest:
        if not self._called:
            return Rest(self._text, failed=True)
        return Rest(self._text[at if mark == self._leave else at + len(mark) :], failed=False)

    def _read_arguments(self, extent: Extent) -> None:
        assert self._call is not None
        end, done = extent.feed(self._text)
        self._calls.more(self._call, self._text[:end])
        self._text = self._text[end:]
        if done:
            self._calls.end()
            self._extent = None
