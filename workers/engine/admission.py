"""Which sequences may run together, by the memory that their KV states take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.sequence import Sequence

HEADROOM = 256
"""Tokens that a sequence may grow by before it is looked at again: caches grow in such steps."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one row's cache: for each token, and whatever its length."""

    per_token: float
    fixed: float

    def of(self, rows: int, longest: int) -> float:
        """A batch takes as much for each row as for its longest one."""
        return rows * (self.per_token * longest + self.fixed)


class Admission:
    """Lets sequences run as long as their caches fit into `limit_bytes`; one alone always may."""

    def __init__(self, footprint: Footprint, limit_bytes: float) -> None:
        self._footprint = footprint
        self._limit = limit_bytes

    def admits(self, sequence: Sequence, running: Collection[Sequence]) -> bool:
        """Whether a sequence may join these."""
        if not running:
            return True
        longest = max(room(one) for one in (sequence, *running))
        return self._footprint.of(len(running) + 1, longest) <= self._limit

    def outgrown(self, running: Collection[Sequence]) -> bool:
        """Whether these take more than there is, since they have grown."""
        longest = max((len(one.prompt) + len(one.emitted) for one in running), default=0)
        return self._footprint.of(len(running), longest) > self._limit


def room(sequence: Sequence) -> int:
    """The tokens that a sequence takes soon."""
    known = len(sequence.prompt) + len(sequence.emitted)
    return known + min(sequence.remaining, HEADROOM)


def footprint(model: Any) -> Footprint:
    """What a model's cache takes, seen after one token. Engine thread only."""
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[0]]), cache=cache))
    growing = [layer for layer in flat(cache) if getattr(layer, "keys", None) is not None]
    per_token = sum(layer.nbytes / layer.keys.shape[2] for layer in growing)
    return Footprint(per_token, sum(layer.nbytes for layer in flat(cache) if layer not in growing))


def flat(cache: Any) -> list[Any]:
    """All layers, those of lists of layers too."""
    return [one for layer in cache for one in (flat(layer.caches) if hasattr(layer, "caches") else [layer])]
