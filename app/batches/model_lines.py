"""Lines of a batch that call their model the same: they wait for it together, and for no other one."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence

from mlx_server.app.batches.rows import PendingLine

PAGE = 256
"""Lines that are known ahead of their turn, at least."""


class ModelLines:
    """Those that are still to be done, in their order. `all_read`: no more are to come than are put back.

    Times are the event loop's.
    """

    def __init__(self, *, all_read: bool = False) -> None:
        self.paused_until = 0.0
        self.last: PendingLine | None = None
        """The last that was read."""
        self._all_read = all_read
        self._ahead: deque[PendingLine] = deque()
        self._again: list[tuple[float, int, PendingLine]] = []
        self._numbers = itertools.count()

    @property
    def is_short(self) -> bool:
        """Whether more are to be read."""
        return len(self._ahead) < PAGE // 2 and not self._all_read

    @property
    def is_done(self) -> bool:
        """Whether none is left."""
        return self._all_read and not self._ahead and not self._again

    def add(self, lines: Sequence[PendingLine]) -> None:
        """Those that follow the last one, of which a PAGE was asked for."""
        self._ahead.extend(lines)
        self._all_read = len(lines) < PAGE
        self.last = lines[-1] if lines else self.last

    def put_back(self, line: PendingLine, at: float) -> None:
        """One is to be run again from that time on."""
        heapq.heappush(self._again, (at, next(self._numbers), line))

    def first(self, now: float) -> PendingLine | None:
        """The one that is to be started next, if one may be now."""
        while self._again and self._again[0][0] <= now:
            self._ahead.appendleft(heapq.heappop(self._again)[2])
        return self._ahead[0] if self._ahead and now >= self.paused_until else None

    def take(self) -> None:
        """The first is started."""
        self._ahead.popleft()
