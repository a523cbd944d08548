"""The fewest tokens that are worth reading at a time: where weights are what takes time, some take as long as one."""

from __future__ import annotations

import statistics
from collections import deque

LEAST_TOKENS = 4
"""However long they take: a prompt must come to its end."""

HARDLY_LONGER = 1.3
"""Twice as many tokens are read at a time where they take at most so many times as long."""

TRIES = 3
PAUSE = 64
"""Chunks between two searches: what tokens take grows with those before them."""


class SmallestChunk:
    """Found by trying twice as many now and then, and half as many after a while."""

    def __init__(self) -> None:
        self._tokens = LEAST_TOKENS
        self._took: dict[int, deque[float]] = {}
        """Seconds, by how many were read."""
        self._pause = 0

    @property
    def tokens(self) -> int:
        """How many to read where there is no time for so many."""
        tried = self._pause or len(self._took.get(self._tokens, ())) < TRIES
        return self._tokens if tried else 2 * self._tokens

    def read(self, tokens: int, seconds: float) -> None:
        """So many took so long."""
        if self._pause:
            self._pause -= 1
            if not self._pause:
                self._tokens = max(LEAST_TOKENS, self._tokens // 2)
                self._took.clear()
            return
        if tokens in (self._tokens, 2 * self._tokens):
            self._took.setdefault(tokens, deque(maxlen=TRIES)).append(seconds)
        few, many = (self._took.get(n, ()) for n in (self._tokens, 2 * self._tokens))
        if min(len(few), len(many)) < TRIES:
            return
        if statistics.median(many) <= HARDLY_LONGER * statistics.median(few):
            self._tokens *= 2
        else:
            self._pause = PAUSE
