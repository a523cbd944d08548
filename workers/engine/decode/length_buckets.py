"""Rows of similar length decode together: in a batch, each row takes as much memory and time as the longest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.sequence import Key, Sequence

ALL_TOGETHER = 1e18
"""The cost of another batch where there must be only one: finite, so that costs can be subtracted."""

REARRANGED_EVERY = 64
"""Steps between two checks of rows that have grown."""

WORTH_MOVING = 0.5
"""Unless a row has just joined, rows are moved only for a gain of this many times a batch's own cost."""


def partition(lengths: Collection[int], own_cost: float) -> list[int]:
    """The number of rows in each batch, from the shortest rows on, so that batches and padded lengths cost least in
    all.

    `own_cost` is the cost of one more batch, in tokens. Of equal totals, the one with fewer batches.
    """
    ordered = sorted(lengths)
    # For the first n rows: their cost, and where their last batch begins.
    best, begins = np.zeros(len(ordered) + 1), [0]
    for end, longest in enumerate(ordered, 1):
        costs = best[:end] + longest * np.arange(end, 0, -1)
        begins.append(int(costs.argmin()))
        best[end] = costs[begins[-1]] + own_cost
    ends = [len(ordered)]
    while ends[-1]:
        ends.append(begins[ends[-1]])
    return [end - start for start, end in pairwise(reversed(ends))]


def padded(lengths: Collection[int], own_cost: float) -> int:
    """The tokens that rows of these lengths take in buckets, padding included."""
    ordered, end, tokens = sorted(lengths), 0, 0
    for size in partition(lengths, own_cost):
        end += size
        tokens += size * ordered[end - 1]
    return tokens


class LengthBuckets:
    """The rows of an engine, in the batches that waste least. Engine thread only."""

    def __init__(self, make_rows: Callable[[], DecodeBatch], own_cost: float) -> None:
        """`own_cost` is the cost of one more batch in tokens of padding: each reads the model's weights once."""
        self._make_rows = make_rows
        self._own_cost = own_cost
        self.batches: list[DecodeBatch] = []
        """Each is stepped by itself."""

    @property
    def groups(self) -> list[list[Key]]:
        """The keys of each batch's rows."""
        return [list(batch.keys) for batch in self.batches]

    def join(self, reads: Collection[tuple[list[Sequence], list[Any]]], processors: dict[Key, Any]) -> None:
        """As `DecodeBatch.join`, with any number of caches. Those of single rows of similar length are put together at
        once: one after the other, each would have the rows before it copied."""
        singles = {sequences[0].key: (sequences[0], cache) for sequences, cache in reads if len(sequences) == 1}
        added = [(sequences, cache) for sequences, cache in reads if len(sequences) > 1]
        for keys in self._wanted({key: len(one.context) for key, (one, _) in singles.items()}):
            caches = [singles[key][1] for key in keys]
            added.append(([singles[key][0] for key in keys], caches[0] if len(caches) == 1 else merged(caches)))
        for sequences, cache in added:
            batch = self._make_rows()
            batch.join(sequences, cache, processors)
            self.batches.append(batch)
        if added:
            self.arrange(0.0)

    def leave(self, keys: Collection[Key]) -> None:
        """Remove rows; unknown keys are ignored."""
        for batch in self.batches:
            batch.leave(keys)
        before, self.batches = len(self.batches), [batch for batch in self.batches if batch.keys]
        if before > 1:
            self.arrange(WORTH_MOVING)

    def state(self, key: Key) -> tuple[list[Any], int] | None:
        """As `DecodeBatch.state`."""
        return next((state for batch in self.batches if (state := batch.state(key)) is not None), None)

    def arrange(self, least_gain: float) -> None:
        """Move rows to others of similar length, if that gains more than `least_gain` times a batch's own cost."""
        if len(self.batches) == 1 and not self._may_part(self.batches[0]):
            return
        lengths = {key: length for batch in self.batches for key, length in batch.lengths.items()}
        now = sum(self._cost(batch.lengths.values()) for batch in self.batches)
        wanted = [set(keys) for keys in self._wanted(lengths)]
        best = sum(self._cost([lengths[key] for key in keys]) for keys in wanted)
        if now - best > least_gain * self._own_cost:
            self.batches = [self._gathered(keys) for keys in wanted]

    def _may_part(self, batch: DecodeBatch) -> bool:
        """Whether a split could gain anything: the batch's padding costs more than another batch."""
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
        """Exactly these rows in one batch, the one that has most of them. The other rows stay in their batches."""
        batches = [batch for batch in self.batches if not keys.isdisjoint(batch.keys)]
        largest = max(batches, key=lambda batch: len(keys.intersection(batch.keys)))
        gathered = self._separated(largest, keys.intersection(largest.keys))
        for batch in batches:
            if batch is not largest:
                gathered.absorb(self._separated(batch, keys.intersection(batch.keys)))
        return gathered

    def _separated(self, batch: DecodeBatch, keys: set[Key]) -> DecodeBatch:
        """These rows of a batch by themselves; of its two parts the smaller one is moved."""
        others = set(batch.keys) - keys
        if len(others) > len(keys):
            return batch.part(keys)
        if others:
            self.batches.append(batch.part(others))
        return batch
