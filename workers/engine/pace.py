"""How much of a prompt may be read between two tokens of those that are being answered: measured, not guessed."""

from __future__ import annotations

LEAST_TOKENS = 32
"""Fewer take a model hardly less time."""

GAP_IN_STEPS = 2.5
"""How long a gap between tokens may be where no target is set: so many times a step without any reading."""

WEIGHT = 0.3
"""Of the latest measurement in a running mean."""


def readable(gap_s: float | None, step_s: float, tokens_per_s: float, most: int) -> int:
    """How many tokens of prompts may be read beside a decoding step that takes `step_s`.

    The two together shall take no longer than `gap_s`, or GAP_IN_STEPS steps where that is None. A multiple of 16,
    from LEAST_TOKENS to `most`; where nothing has been measured (0), LEAST_TOKENS.
    """
    room = (GAP_IN_STEPS * step_s if gap_s is None else gap_s) - step_s
    tokens = int(max(room, 0.0) * tokens_per_s) // 16 * 16
    return max(1, min(most, max(LEAST_TOKENS, tokens)))


class Pace:
    """Running means of what a decoding step takes, and of how fast prompts are read."""

    def __init__(self, gap_s: float | None, most: int) -> None:
        """`most`: tokens of one prompt that are read at a time, however fast that is."""
        self._gap_s = gap_s
        self._most = most
        self._step_s = 0.0
        self._tokens_per_s = 0.0

    @property
    def tokens(self) -> int:
        """How many tokens may be read before the next token of those that are being answered."""
        return readable(self._gap_s, self._step_s, self._tokens_per_s, self._most)

    @property
    def most(self) -> int:
        """How many tokens of one prompt may be read at a time while nothing is being answered."""
        return self._most

    def decoded(self, seconds: float) -> None:
        """A step without any reading took so long."""
        self._step_s = mean(self._step_s, seconds)

    def read(self, tokens: int, seconds: float, *, beside: bool) -> None:
        """So many tokens were read in so long, `beside` a decoding step that ran at the same time or not."""
        own = max(seconds - self._step_s if beside else seconds, 0.25 * seconds, 1e-6)
        # Slower than the mean: twice as fast from one chunk to the next is as much as is believed.
        rate = tokens / own
        limit = 2 * self._tokens_per_s
        self._tokens_per_s = mean(self._tokens_per_s, min(rate, limit) if limit else rate)


def mean(known: float, latest: float) -> float:
    """A running mean, which begins with the first measurement."""
    return latest if not known else known + WEIGHT * (latest - known)
