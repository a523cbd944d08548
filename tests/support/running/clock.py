"""A clock that stands still until a test moves it, in place of the event loop's timers."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True)
class Timer:
    """One callback that is due at a time; the order of calls breaks ties."""

    when: float
    number: int
    callback: Callable[..., object] = field(compare=False)
    args: tuple[object, ...] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """The callback will not be called."""
        self.cancelled = True


class FakeClock:
    """The queue's `Clock`, moved by hand."""

    def __init__(self) -> None:
        self._now = 0.0
        self._numbers = itertools.count()
        self._timers: list[Timer] = []

    def time(self) -> float:
        """Seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call back when the time has been moved there."""
        timer = Timer(when, next(self._numbers), callback, args)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def pending(self) -> int:
        """Timers that may still go off."""
        return sum(not timer.cancelled for timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Move the time on; what falls due meanwhile is called at its own time, in order."""
        end = self._now + seconds
        while self._timers and self._timers[0].when <= end:
            self._call_next()
        self._now = end

    def run(self) -> None:
        """Move the time on until no timer is left."""
        while self._timers:
            self._call_next()

    def _call_next(self) -> None:
        timer = heapq.heappop(self._timers)
        if not timer.cancelled:
            self._now = max(self._now, timer.when)
            timer.callback(*timer.args)
