"""Rows of like length decode together: a batch takes as much memory and time for each row as for its longest one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.sequence import Key, Sequence

ALL_TOGETHER = 1e18
"""The cost of another batch where there shall never be one: finite, for differences of costs."""

LOOK_EVERY = 64
"""Steps between two looks at rows that have grown."""

WORTH_MOVING = 0.5
"""Rows that nobody has joined or left are moved for a gain of so many batches' own costs."""


def partition(lengths: Collection[int], own_cost: float) -> list[int]:
    """How many of the rows, from the shortest on, go into each batch, so that padded lengths cost least in all.

    `own_cost` is what one batch more costs, in tokens. Of equal costs, the one with fewer batches.
    """
    ordered = sorted(lengths)
    best, begins = np.zeros(len(ordered) + 1), [0]
    """For the first so many rows: their cost, and where the last batch begins."""
    for end, longest in enumerate(ordered, 1):
        costs = best[:end] + longest * np.arange(end, 0, -1)
        begins.append(int(costs.argmin()))
        best[end] = costs[begins[-1]] + own_cost
    ends = [len(ordered)]
    while ends[-1]:
        ends.append(begins[ends[-1]])
    return [end - start for start, end in pairwise(reversed(ends))]


def padded(lengths: Collection[int], own_cost: float) -> int:
    """The tokens that these rows take where they are grouped, padding included."""
    ordered, end, tokens = sorted(lengths), 0, 0
    for size in partition(lengths, own_cost):
        end += size
        tokens += size * ordered[end - 1]
    return tokens


class LengthBuckets:
    """The rows of an engine, in as many batches as waste least. Engine thread only."""

    def __init__(self, make_rows: Callable[[], DecodeBatch], own_cost: float) -> None:
        """`own_cost` is what one batch more costs, in tokens of padding: each reads the model's weights once."""
        self._make_rows = make_rows
        self._own_cost = own_cost
        self._batches: list[DecodeBatch] = []
        self._steps = 0

    def __len__(self) -> int:
        return sum(len(batch.keys) for batch in self._batches)

    @property
    def groups(self) -> list[list[Key]]:
        """Who is with whom."""
        return [list(batch.keys) for batch in self._batches]

    def join(self, sequences: list[Sequence], cache: list[Any], processors: dict[Key, Any]) -> None:
        """As DecodeBatch.join."""
        batch = self._make_rows()
        batch.join(sequences, cache, processors)
        self._batches.append(batch)
        self._arrange(0.0)

    def step(self) -> list[Drawn]:
        """The next token of every row that has read its prompt."""
        self._steps += 1
        if self._steps % LOOK_EVERY == 0:
            self._arrange(WORTH_MOVING)
        return [drawn for batch in self._batches for drawn in batch.step()]

    def leave(self, keys: Collection[Key]) -> None:
        """Have rows leave; unknown keys are ignored."""
        for batch in self._batches:
            batch.leave(keys)
        before, self._batches = len(self._batches), [batch for batch in self._batches if batch.keys]
        if before > 1:
            self._arrange(WORTH_MOVING)

    def state(self, key: Key) -> tuple[list[Any], int] | None:
        """As DecodeBatch.state."""
        return next((state for batch in self._batches if (state := batch.state(key)) is not None), None)

    def _arrange(self, least_gain: float) -> None:
        """Move rows to those of like length, if that gains more than so many batches' own costs."""
        if len(self._batches) == 1 and not self._may_part(self._batches[0]):
            return
        lengths = {key: length for batch in self._batches for key, length in batch.lengths.items()}
        now = sum(self._cost(batch.lengths.values()) for batch in self._batches)
        wanted = [set(keys) for keys in self._wanted(lengths)]
        best = sum(self._cost([lengths[key] for key in keys]) for keys in wanted)
        if now - best > least_gain * self._own_cost:
            self._batches = [self._gathered(keys) for keys in wanted]

    def _may_part(self, batch: DecodeBatch) -> bool:
        """All of its padding is worth more than another batch's cost: parting could gain something."""
        lengths = batch.lengths.values()
        return len(lengths) * max(lengths) - sum(lengths) > self._own_cost

    def _cost(self, lengths: Collection[int]) -> float:
        return self._own_cost + len(lengths) * max(lengths)

    def _wanted(self, lengths: dict[Key, int]) -> Iterable[list[Key]]:
        ordered, start = sorted(lengths, key=lambda key: lengths[key]), 0
        for size in partition(lengths.values(), self._own_cost):
            yield ordered[start : start + size]
            start += size

    def _gathered(self, keys: set[Key]) -> DecodeBatch:
        """Just these rows, in the batch that has most of them. The others' batches stay without them."""
        batches = [batch for batch in self._batches if not keys.isdisjoint(batch.keys)]
        largest = max(batches, key=lambda batch: len(keys.intersection(batch.keys)))
        gathered = self._separated(largest, keys.intersection(largest.keys))
        for batch in batches:
            if batch is not largest:
                gathered.absorb(self._separated(batch, keys.intersection(batch.keys)))
        return gathered

    def _separated(self, batch: DecodeBatch, keys: set[Key]) -> DecodeBatch:
        """These rows of a batch by themselves; the fewer are moved, the others are a batch of their own."""
        others = set(batch.keys) - keys
        if len(others) > len(keys):
            return batch.part(keys)
        if others:
            self._batches.append(batch.part(others))
        return batch
