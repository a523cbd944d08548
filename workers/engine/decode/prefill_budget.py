"""How much of a prompt may be read between two tokens of those that are being answered: measured, not guessed."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection

from mlx_server.workers.engine.decode.smallest_chunk import LEAST_TOKENS, SmallestChunk

ROUND_ABOVE = 64
"""More tokens than this are read in multiples of 16, which kernels like; fewer as they are, or they could not grow
where few take as long as many."""

WHOLE = 64
"""Prompts with no more tokens to read are not read in chunks, unless a gap between tokens is aimed at."""

GAP_IN_STEPS = 2.3
"""How long a gap between tokens may be where no target is set: so many times a step without any reading."""

MEASURED_EVERY = 64
"""After so many steps beside which prompts were read, there is one without, to see what it takes."""

STEPS_KNOWN, CHUNKS_KNOWN = 15, 5
"""Measurements that are remembered."""

LEAST_SHARE = 0.25
"""Of the time of a chunk and the step beside it, this much is the chunk's at least."""


def readable(gap_s: float | None, step_s: float, tokens_per_s: float, most: int) -> int:
    """How many tokens of prompts may be read beside a decoding step that takes `step_s`.

    The two together shall take no longer than `gap_s`, or GAP_IN_STEPS steps where that is None. From LEAST_TOKENS to
    `most`; where nothing has been measured (0), LEAST_TOKENS.
    """
    room = (GAP_IN_STEPS * step_s if gap_s is None else gap_s) - step_s
    tokens = int(max(room, 0.0) * tokens_per_s)
    tokens = tokens // 16 * 16 if tokens > ROUND_ABOVE else tokens
    return max(1, min(most, max(LEAST_TOKENS, tokens)))


class PrefillBudget:
    """What a decoding step takes, and how fast prompts are read: medians of the latest measurements, since a machine
    that others use as well stalls now and then."""

    def __init__(self, gap_s: float | None, most: int) -> None:
        """`most`: tokens of one prompt that are read at a time, however fast that is."""
        self._gap_s = gap_s
        self._most = most
        self._steps_s: deque[float] = deque(maxlen=STEPS_KNOWN)
        self._tokens_per_s: deque[float] = deque(maxlen=CHUNKS_KNOWN)
        self._floor = SmallestChunk()
        self._rows = 0
        """Of the steps that were measured."""
        self._reads = 0
        """Since a step was measured."""
        self._undisturbed = True
        """Nothing was read in the step before, so that this one's time is that of decoding."""

    @property
    def exact(self) -> bool:
        """A gap between tokens is aimed at."""
        return self._gap_s is not None

    def may_read(self, rows: int, *, waits: bool) -> bool:
        """Whether a prompt that `waits` is read in this step, beside so many rows."""
        self._undisturbed = not waits or (rows > 0 and self.wants_a_step(rows))
        return not self._undisturbed

    def is_short(self, left: int) -> bool:
        """Reading so many tokens in chunks would take longer than it is worth: the first few cost as much as some
        more."""
        return not self.exact and left <= WHOLE

    def wants_a_step(self, rows: int) -> bool:
        """A step of so many rows without any reading should be measured before prompts are read beside one again."""
        return self._reads >= MEASURED_EVERY or not self._like(rows)

    @property
    def tokens(self) -> int:
        """How many tokens of a prompt may be read before the next token of those that are being answered."""
        tokens = readable(self._gap_s, middle(self._steps_s), middle(self._tokens_per_s), self._most)
        return tokens if self.exact else max(tokens, min(self._floor.tokens, self._most))

    def together(self, waiting: int, running: int) -> int:
        """How many tokens of short prompts may be read together: more where fewer than twice as many are being
        answered as wait, unless there is a target."""
        times = 1.0 if self._gap_s is not None else max(1.0, 2 * waiting / max(running, 1))
        step_s = middle(self._steps_s)
        return readable(self._gap_s or times * GAP_IN_STEPS * step_s, step_s, middle(self._tokens_per_s), 1 << 20)

    @property
    def most(self) -> int:
        """How many tokens of one prompt may be read at a time while nothing is being answered."""
        return self._most

    def decoded(self, seconds: float, rows: int) -> None:
        """Decoding so many rows took so long; it is a measurement if nothing was read in the step before."""
        if not self._undisturbed:
            return
        if not self._like(rows):
            self._steps_s.clear()
        self._rows = rows
        self._steps_s.append(seconds)
        self._reads = 0

    def read(self, tokens: int, seconds: float, *, beside: bool) -> None:
        """So many tokens were read in so long, a decoding step `beside` it included."""
        own = max(seconds - middle(self._steps_s), LEAST_SHARE * seconds) if beside else seconds
        self._tokens_per_s.append(tokens / max(own, 1e-6))
        self._reads += beside
        if beside:
            self._floor.read(tokens, own)

    def _like(self, rows: int) -> bool:
        """A step of so many rows takes about as long as those that were measured."""
        return self._rows / 1.5 <= rows <= self._rows * 1.5


def middle(measured: Collection[float]) -> float:
    """The median; 0 of nothing."""
    return statistics.median(measured) if measured else 0.0
