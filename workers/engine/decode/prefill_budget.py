"""How many prompt tokens may be read between two tokens of the running rows: measured, not guessed."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection

from mlx_server.workers.engine.decode.smallest_chunk import LEAST_TOKENS, SmallestChunk

ROUND_ABOVE = 64
"""Chunks of more tokens than this are multiples of 16, which kernels like; smaller ones are not rounded, or they could
not grow where few tokens take as long as many."""

WHOLE = 64
"""Prompts with at most this many tokens left are read whole, unless there is a target for the gap between tokens."""

GAP_IN_STEPS = 2.3
"""The longest gap between tokens where there is no target, as a multiple of a step without prefill."""

MEASURED_EVERY = 64
"""After this many steps with prefill, one without is measured."""

STEPS_KNOWN, CHUNKS_KNOWN = 15, 5
"""How many measurements of each are kept."""

YIELDING_S, YIELDING_TOKENS = 0.05, 32
"""How long a chunk of prompts that make way should take; but that many tokens are always read."""

LEAST_SHARE = 0.25
"""Of the time of a prefill chunk and the decode step beside it, the least share that counts as the chunk's."""


def readable(gap_s: float | None, step_s: float, tokens_per_s: float, most: int) -> int:
    """How many prompt tokens may be read beside a decode step that takes `step_s` seconds.

    The two together should take no longer than `gap_s`, or GAP_IN_STEPS steps where that is None. From LEAST_TOKENS to
    `most`; where nothing has been measured (0), LEAST_TOKENS.
    """
    room = (GAP_IN_STEPS * step_s if gap_s is None else gap_s) - step_s
    tokens = int(max(room, 0.0) * tokens_per_s)
    tokens = tokens // 16 * 16 if tokens > ROUND_ABOVE else tokens
    return max(1, min(most, max(LEAST_TOKENS, tokens)))


class PrefillBudget:
    """The duration of a decode step and the speed of prefill: medians of the latest measurements, since a machine that
    others use too stalls now and then."""

    def __init__(self, gap_s: float | None, most: int) -> None:
        """`gap_s`: the target for the gap between tokens; `most`: the largest prefill chunk in tokens, however fast it
        is."""
        self._gap_s = gap_s
        self._most = most
        self.steps: deque[tuple[float, int]] = deque(maxlen=STEPS_KNOWN)
        """The latest decode steps that no prefill disturbed: seconds and rows. Whoever steps appends them."""
        self.reads = 0
        """Prefill chunks since the latest of these; whoever appends one sets it to 0."""
        self._tokens_per_s: deque[float] = deque(maxlen=CHUNKS_KNOWN)
        self._floor = SmallestChunk()

    @property
    def exact(self) -> bool:
        """Whether there is a target for the gap between tokens."""
        return self._gap_s is not None

    def may_read(self, rows: int) -> bool:
        """Whether a step with `rows` rows may include a prefill chunk."""
        return not (rows and self.wants_a_step(rows))

    def is_short(self, left: int) -> bool:
        """Whether a prompt with `left` tokens to read is read whole: the first few tokens cost as much as some more, so
        chunks would take too long."""
        return not self.exact and left <= WHOLE

    def wants_a_step(self, rows: int) -> bool:
        """Whether a step of `rows` rows without prefill should be measured before the next chunk."""
        return self.reads >= MEASURED_EVERY or not self._like(rows)

    @property
    def tokens(self) -> int:
        """The size in tokens of a prefill chunk beside running rows."""
        tokens = readable(self._gap_s, self._step_s, middle(self._tokens_per_s), self._most)
        return tokens if self.exact else max(tokens, min(self._floor.tokens, self._most))

    def together(self, waiting: int, running: int) -> int:
        """How many tokens of short prompts may be read together: more where twice the `waiting` prompts exceed the
        `running` rows, unless there is a target."""
        times = 1.0 if self._gap_s is not None else max(1.0, 2 * waiting / max(running, 1))
        step_s = self._step_s
        return readable(self._gap_s or times * GAP_IN_STEPS * step_s, step_s, middle(self._tokens_per_s), 1 << 20)

    @property
    def yielding(self) -> int:
        """The size in tokens of a prefill chunk of prompts that make way: whoever comes waits for its end."""
        return min(self._most, max(YIELDING_TOKENS, int(YIELDING_S * middle(self._tokens_per_s))))

    @property
    def most(self) -> int:
        """The size in tokens of a prefill chunk while no row runs."""
        return self._most

    def read(self, tokens: int, seconds: float, *, beside: bool) -> None:
        """Record a prefill of `tokens` tokens in `seconds`, which include a decode step if one ran `beside` it."""
        own = max(seconds - self._step_s, LEAST_SHARE * seconds) if beside else seconds
        self._tokens_per_s.append(tokens / max(own, 1e-6))
        self.reads += beside
        if beside:
            self._floor.read(tokens, own)

    @property
    def _step_s(self) -> float:
        """The median time of steps with about as many rows as the latest has; 0 where nothing was measured."""
        return middle([seconds for seconds, rows in self.steps if alike(rows, self.steps[-1][1])])

    def _like(self, rows: int) -> bool:
        """Whether a step of `rows` rows takes about as long as the one measured last."""
        return bool(self.steps) and alike(rows, self.steps[-1][1])


def alike(rows: int, others: int) -> bool:
    """Whether steps of so many rows take about as long."""
    return others / 1.5 <= rows <= others * 1.5


def middle(measured: Collection[float]) -> float:
    """The median; 0 where nothing was measured."""
    return statistics.median(measured) if measured else 0.0
