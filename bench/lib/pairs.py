"""Interleaved pairs: a baseline and the server measured in turns, so that drift of the machine hits both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lib.others import OthersWatch


@dataclass(frozen=True, slots=True)
class Side:
    """One timed repetition of one side; `detail` is its raw record.

    `others_cores`: cores that processes outside the benchmark kept busy meanwhile.
    """

    tokens: int
    tokens_per_s: float
    detail: dict[str, Any]
    others_cores: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two repetitions over the same prompts; `ratio` is server over baseline, in tokens per second."""

    first: str
    baseline: Side
    server: Side

    @property
    def ratio(self) -> float:
        return self.server.tokens_per_s / self.baseline.tokens_per_s


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of several values."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def interleave(
    count: int, baseline: Callable[[int], Side], server: Callable[[int], Side], done: Callable[[Pair], None]
) -> list[Pair]:
    """`count` pairs; each side gets the pair's index. Who goes first alternates."""
    pairs: list[Pair] = []
    for index in range(count):
        if index % 2:
            served = _watched(server, index)
            pair = Pair("server", _watched(baseline, index), served)
        else:
            bare = _watched(baseline, index)
            pair = Pair("baseline", bare, _watched(server, index))
        done(pair)
        pairs.append(pair)
    return pairs


def _watched(side: Callable[[int], Side], index: int) -> Side:
    with OthersWatch() as others:
        measured = side(index)
    return replace(measured, others_cores=others.cores)


def others_cores(pairs: Sequence[Pair]) -> float:
    """The most that other processes took during one repetition, in cores."""
    return max(side.others_cores for pair in pairs for side in (pair.baseline, pair.server))


def token_difference(pairs: Sequence[Pair]) -> float:
    """By how much the two sides' token totals differ, as a share of the baseline's."""
    baseline = sum(pair.baseline.tokens for pair in pairs)
    return abs(sum(pair.server.tokens for pair in pairs) - baseline) / baseline
