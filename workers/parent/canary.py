"""The canary: a token that an idle worker is asked for now and then, since one that can't generate may look alive."""

from __future__ import annotations

from collections import Counter

PASSED, FAILED = "passed", "failed"
OUTCOMES = PASSED, FAILED

WRITING = ("lm", "vlm", "scripted")
"""The kinds of models that are asked: those that write."""


class Canary:
    """When a worker is due to be asked, and when the answer is. Pure: whoever has a clock says the time, in seconds.

    It is asked after `interval_s` without work and without a canary, 0: never, and may take `limit_s`.
    """

    def __init__(self, interval_s: float, limit_s: float) -> None:
        self._interval_s = interval_s
        self._limit_s = limit_s
        self._quiet_since = 0.0
        self._asked_at: float | None = None
        self.outcomes: Counter[str] = Counter()
        """How many came to which end so far, in all lives of the worker."""

    def begin(self, now: float) -> None:
        """A worker takes work from now on. What its predecessor was asked and died of has failed."""
        if self._asked_at is not None:
            self._end(now, FAILED)
        self._quiet_since = now

    def overslept(self, now: float) -> None:
        """Nobody could have answered for a while."""
        if self._asked_at is not None:
            self._asked_at = now

    def due(self, now: float, *, idle: bool) -> bool:
        """Whether a worker that takes work is to be asked now; True says that it is."""
        if not idle:
            self._quiet_since = now
        if not self._interval_s or self._asked_at is not None or now - self._quiet_since < self._interval_s:
            return False
        self._asked_at = now
        return True

    def overdue(self, now: float) -> bool:
        """Whether the answer has taken too long; it has failed then."""
        if self._asked_at is None or now - self._asked_at <= self._limit_s:
            return False
        self._end(now, FAILED)
        return True

    def answered(self, now: float, *, well: bool) -> None:
        """The worker has given its token, or said why not."""
        self._end(now, PASSED if well else FAILED)

    def _end(self, now: float, outcome: str) -> None:
        self._quiet_since, self._asked_at = now, None
        self.outcomes[outcome] += 1
