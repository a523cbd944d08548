"""How many proposed tokens are worth a check: what a wider step costs on this machine against what it may save."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""How many tokens of each row a step may read: its last one, and proposals."""

MOST = WIDTHS[-1] - 1
"""Proposals of one row in a step, at most."""

TOKEN_COSTS = 0.06
"""What a token more costs, in steps of one row, as long as nothing has been measured."""

DRAFTS_COST = 0.1
"""What a draft model's step costs, in the model's own steps, as long as nothing has been measured: little, so that it
is tried."""

MEASURED = 5
"""How many of the latest steps of a width are remembered."""

FORGOTTEN_AFTER = 400
"""Steps after which a wider one's measurement counts no more: what was too slow once may not be now."""

DRAFTS_FORGOTTEN_AFTER = 2000
"""The same of a draft model's steps: before it is tried again, it has to read all that it has missed."""

NEVER = 1 << 62

SUREST = 0.99
"""Odds are never better."""

LEAST_GAIN = 1.05
"""A wider step must give so many times the tokens per second: it has to wait for the last token, too."""

Times = deque[tuple[int, float]]
"""The latest measurements: the number of the step, and the seconds."""


class Guess(NamedTuple):
    """What may follow a row's latest token, the odds of each token to be right, and how many are checked whatever they
    cost."""

    tokens: list[int]
    odds: float
    asked: int = 0


NOTHING = Guess([], 0.0)


class Plan(NamedTuple):
    """The width of a step, and how many tokens a second it should give."""

    width: int
    rate: float


class Worth:
    """The times of steps of several widths: medians, since others use the machine too. Engine thread only."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds: dict[int, dict[int, Times]] = {}
        """Of steps, by their rows and their width."""
        self._drafts: dict[int, Times] = {}
        """Of a draft model's steps, by their rows."""

    def took(self, rows: int, width: int, seconds: float) -> None:
        """Record a step."""
        self._steps += 1
        latest = self._seconds.setdefault(rows, {}).setdefault(width, deque(maxlen=MEASURED))
        latest.append((self._steps, seconds))

    def drafted(self, rows: int, tokens: int, seconds: float) -> None:
        """Record that a draft model proposed `tokens` tokens for each of `rows` rows."""
        self._drafts.setdefault(rows, deque(maxlen=MEASURED)).append((self._steps, seconds / tokens))

    def best(self, rows: int, guesses: Sequence[tuple[int, float]], drafting: int = 0) -> Plan:
        """The next step of `rows` rows: one of width 1 for none of the guesses.

        `guesses`: of rows that have any, how many tokens and the odds of each to be right, from 0 to 1. A draft model
        has yet to make those of `drafting` rows.
        """
        measured = self._measured(rows)
        plain_s = expected(measured, rows, 1)
        draft_s = self._draft_s(drafting, plain_s, measured=bool(measured)) if drafting else 0.0
        plain = Plan(1, rows / plain_s)
        if not guesses:
            return plain
        plans = [
            Plan(width, (rows + gained(guesses, width - 1)) / (expected(measured, rows, width) + draft_s * (width - 1)))
            for width in WIDTHS
        ]
        best = max(plans, key=lambda plan: plan.rate)
        return best if best.rate > LEAST_GAIN * plain.rate else plain

    def _measured(self, rows: int) -> dict[int, float]:
        """The seconds of steps by their widths."""
        found = {
            width: self._middle(latest, FORGOTTEN_AFTER if width > 1 else NEVER)
            for width, latest in self._seconds.get(rows, {}).items()
        }
        return {width: seconds for width, seconds in found.items() if seconds is not None}

    def _draft_s(self, rows: int, plain_s: float, *, measured: bool) -> float:
        """What a draft model's step of about so many rows takes, in the unit of a plain one's `plain_s`: seconds if
        that was measured."""
        nearest = min(self._drafts, key=lambda known: abs(known - rows), default=rows)
        found = self._middle(self._drafts.get(nearest, ()), DRAFTS_FORGOTTEN_AFTER) if measured else None
        return DRAFTS_COST * plain_s if found is None else found

    def _middle(self, latest: Sequence[tuple[int, float]], forgotten_after: int) -> float | None:
        """The median of what has not been forgotten; None if all has."""
        seconds = [took for step, took in latest if self._steps - step < forgotten_after]
        return statistics.median(seconds) if seconds else None


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
