"""How many proposed tokens are worth a check: what a wider step costs on this machine against what it may save."""

from __future__ import annotations

from collections.abc import Sequence

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""How many tokens of each row a step may read: its last one, and proposals."""

MOST = WIDTHS[-1] - 1
"""Proposals of one row in a step, at most."""

TOKEN_COSTS = 0.06
"""What a token more costs, in steps of one row, as long as nothing has been measured."""

LEARNS = 0.2
"""How much the latest measurement counts."""

SUREST = 0.99
"""Odds are never better."""

LEAST_GAIN = 1.05
"""A wider step must give so many times the tokens per second: it has to wait for the last token, too."""


class Worth:
    """The time of steps of several widths. Engine thread only."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, int], float] = {}
        """Of steps with so many rows, each so wide."""

    def took(self, rows: int, width: int, seconds: float) -> None:
        """Record a step."""
        before = self._seconds.get((rows, width), seconds)
        self._seconds[rows, width] = before + LEARNS * (seconds - before)

    def width(self, rows: int, guesses: Sequence[tuple[int, float]]) -> int:
        """The width of the next step of `rows` rows: 1 for none of the guesses.

        `guesses`: of rows that have any, how many tokens and the odds of each to be right, from 0 to 1.
        """
        plain = rows / self._expected(rows, 1)
        rates = {width: (rows + gained(guesses, width - 1)) / self._expected(rows, width) for width in WIDTHS}
        best = max(rates, key=rates.__getitem__)
        return best if rates[best] > LEAST_GAIN * plain else 1

    def _expected(self, rows: int, width: int) -> float:
        """The seconds of a step, as measured, or from the next narrower one that was; any unit if none was."""
        measured = [known for known in WIDTHS if known <= width and (rows, known) in self._seconds]
        if not measured:
            return 1.0 + TOKEN_COSTS * (width * rows - 1)
        base = self._seconds[rows, measured[-1]]
        unit = self._seconds[rows, measured[0]] / (1.0 + TOKEN_COSTS * (measured[0] * rows - 1))
        return base + unit * TOKEN_COSTS * rows * (width - measured[-1])


def gained(guesses: Sequence[tuple[int, float]], most: int) -> float:
    """How many of at most `most` proposals of each row are right on average, in all rows together: each counts only if
    those before it are right."""
    capped = [(min(count, most), min(odds, SUREST)) for count, odds in guesses]
    return sum(odds * (1 - odds**count) / (1 - odds) for count, odds in capped)
