"""A batch in several passes, inputs of like length together: what suits a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Several

import numpy as np

from mlx_server.workers.engine import platform
from mlx_server.workers.engine.computation import Item, Rows
from mlx_server.workers.engine.embedding import Compute

CPU_PASS_TOKENS = 384
"""Here a CPU is as fast as it gets, and what a layer makes still lies in its caches."""


def suited(compute: Compute) -> Compute:
    """The same function as the machine computes it fastest: a GPU takes whole batches."""
    return in_passes(compute, CPU_PASS_TOKENS) if platform.on_cpu() else compute


def in_passes(compute: Compute, most_tokens: int) -> Compute:
    """The same function, in passes of at most so many tokens, padding included; a longer input goes alone."""

    def computed(items: Several[Item]) -> Rows:
        order = sorted(range(len(items)), key=lambda at: -len(items[at].ids))
        lengths = [len(items[at].ids) for at in order]
        rows = [compute([items[at] for at in order[part]]) for part in passes(lengths, most_tokens)]
        back = np.argsort(order)
        return np.concatenate(rows)[back]

    return computed


def passes(lengths: Several[int], most_tokens: int) -> Iterator[slice]:
    """Cuts a list of lengths, longest first, into parts that are no larger than that when padded."""
    start = 0
    while start < len(lengths):
        rows = max(1, most_tokens // lengths[start])
        yield slice(start, start + rows)
        start += rows
