"""The smallest prefill chunk worth reading: where reading the weights takes the time, several tokens take as long as
one."""

from __future__ import annotations

import statistics
from collections import deque

LEAST_TOKENS = 4
"""The fewest tokens in a chunk, however long they take: a prompt must come to its end."""

HARDLY_LONGER = 1.3
"""The chunk is doubled where twice the tokens take at most this many times as long."""

TRIES = 3
PAUSE = 64
"""Chunks between two searches: tokens take longer the more stand before them."""


class SmallestChunk:
    """Searches for the size: doubles it now and then, and halves it after a while."""

    def __init__(self) -> None:
        self._tokens = LEAST_TOKENS
        self._took: dict[int, deque[float]] = {}
        """Seconds that chunks took, by their size in tokens."""
        self._pause = 0

    @property
    def tokens(self) -> int:
        """The tokens to read at least, even where time allows fewer."""
        tried = self._pause or len(self._took.get(self._tokens, ())) < TRIES
        return self._tokens if tried else 2 * self._tokens

    def read(self, tokens: int, seconds: float) -> None:
        """Record that a chunk of `tokens` tokens took `seconds`."""
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
