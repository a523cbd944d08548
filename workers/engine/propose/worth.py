"""How many proposed tokens are worth a check: what a wider step costs on this machine against what it may save."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""How many tokens of each row a step may read: its last one, and proposals."""

MOST = WIDTHS[-1] - 1
"""Proposals of one row in a step, at most."""

TOKEN_COSTS = 0.06
"""What a token more costs, in steps of one row, as long as nothing has been measured."""

MEASURED = 5
"""How many of the latest steps of a width are remembered."""

FORGOTTEN_AFTER = 400
"""Steps after which a measurement counts no more: what was too slow once may not be now."""

SUREST = 0.99
"""Odds are never better."""

LEAST_GAIN = 1.05
"""A wider step must give so many times the tokens per second: it has to wait for the last token, too."""


class Worth:
    """The times of steps of several widths: medians, since others use the machine too. Engine thread only."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds: dict[int, dict[int, deque[tuple[int, float]]]] = {}
        """Of steps, by their rows and their width: the number of the step, and how long it took."""

    def took(self, rows: int, width: int, seconds: float) -> None:
        """Record a step."""
        self._steps += 1
        latest = self._seconds.setdefault(rows, {}).setdefault(width, deque(maxlen=MEASURED))
        latest.append((self._steps, seconds))

    def width(self, rows: int, guesses: Sequence[tuple[int, float]]) -> int:
        """The width of the next step of `rows` rows: 1 for none of the guesses.

        `guesses`: of rows that have any, how many tokens and the odds of each to be right, from 0 to 1.
        """
        if not guesses:
            return 1
        measured = self._measured(rows)
        rates = {width: (rows + gained(guesses, width - 1)) / expected(measured, rows, width) for width in WIDTHS}
        best = max(rates, key=rates.__getitem__)
        return best if rates[best] > LEAST_GAIN * rates[1] else 1

    def _measured(self, rows: int) -> dict[int, float]:
        """The seconds of steps by their widths."""
        found = {}
        for width, latest in self._seconds.get(rows, {}).items():
            if seconds := [took for step, took in latest if self._steps - step < FORGOTTEN_AFTER]:
                found[width] = statistics.median(seconds)
        return found


def expected(measured: Mapping[int, float], rows: int, width: int) -> float:
    """The seconds of a step of so many rows, from those `measured` by width: a wider one never takes less, and one that
    is wider than all of them takes TOKEN_COSTS for each token more. In any unit if none was measured."""
    if not measured:
        return 1.0 + TOKEN_COSTS * (width * rows - 1)
    if wider := [seconds for known, seconds in measured.items() if known >= width]:
        return min(wider)
    widest = max(measured)
    unit = measured[widest] / (1.0 + TOKEN_COSTS * (widest * rows - 1))
    return measured[widest] + unit * TOKEN_COSTS * rows * (width - widest)


def gained(guesses: Sequence[tuple[int, float]], most: int) -> float:
    """How many of at most `most` proposals of each row are right on average, in all rows together: each counts only if
    those before it are right."""
    capped = [(min(count, most), min(odds, SUREST)) for count, odds in guesses]
    return sum(odds * (1 - odds**count) / (1 - odds) for count, odds in capped)
