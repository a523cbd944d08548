"""Which sequences may run together, by the memory that their KV states take."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.decode.length_buckets import ALL_TOGETHER, padded
from mlx_server.workers.engine.kvcache.flatten import flat
from mlx_server.workers.engine.runtime.memory_bound import MemoryBound
from mlx_server.workers.engine.sequence import Broken, Sequence

HEADROOM = 256
"""Tokens by which a sequence may grow between two checks: caches grow in steps of this size."""

CHECK_EVERY = 32
"""Steps between two checks of the memory that running sequences take."""

LEAST_OWN_COST = 1024
"""Padding, in tokens, that never justifies another batch: a step of one costs more than reading the weights."""

PADDING_WEIGHS = 2
"""What a byte of padding costs, in bytes of weights: it is computed on, and copied whenever rows join."""

SHARE_OF_LIMIT = 8
"""At most one part in this many of the memory limit is spent on padding to save a batch."""


LONGEST = 1 << 31
"""More tokens than any sequence has."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one row's KV states, `per_token` and `fixed` whatever its length, and of the model's `weights`.

    `windows`: of each layer with a sliding window, its size in tokens and its part of `per_token`.
    """

    per_token: float
    fixed: float
    weights: float = 0.0
    windows: tuple[tuple[int, float], ...] = ()

    def bytes_of(self, tokens: int) -> float:
        """Bytes of the KV states of one sequence of `tokens` tokens."""
        beyond = sum(max(0, tokens - window) * per_token for window, per_token in self.windows)
        return self.fixed + self.per_token * tokens - beyond

    def beside(self, other: Footprint) -> Footprint:
        """That of this model and of another one that reads the same."""
        per_token, fixed = self.per_token + other.per_token, self.fixed + other.fixed
        return replace(self, per_token=per_token, fixed=fixed, windows=(*self.windows, *other.windows))

    def tokens_in(self, limit_bytes: float, most: int = LONGEST) -> int:
        """The most tokens, up to `most`, that one sequence may have in `limit_bytes`."""
        return max(0, bisect_right(range(most + 1), limit_bytes, key=self.bytes_of) - 1)

    def own_cost(self, limit_bytes: float) -> float:
        """The cost of one more batch, in tokens of padding: a step reads the weights once per batch, and the KV states
        of all rows. SHARE_OF_LIMIT caps it."""
        if not self.per_token:
            return ALL_TOGETHER
        most = limit_bytes / SHARE_OF_LIMIT / self.per_token
        return min(max(self.weights / self.per_token / PADDING_WEIGHS, LEAST_OWN_COST), most)


class Admission:
    """Admits sequences while their KV states fit into `limit_bytes`, and all that the worker holds below its `bound`; a
    single one is always admitted."""

    def __init__(
        self,
        footprint: Footprint = Footprint(0.0, 0.0),
        limit_bytes: float = inf,
        bound: MemoryBound | None = None,
        *,
        grouped: bool = True,
    ) -> None:
        """`grouped`: rows of similar length decode in batches of their own."""
        self._footprint = footprint
        self._limit = limit_bytes
        self.bound = bound or MemoryBound()
        self.own_cost = footprint.own_cost(limit_bytes) if grouped else ALL_TOGETHER
        """The cost of one more batch, in tokens of padding."""

    def admits(self, sequence: Sequence, running: Collection[Sequence]) -> bool:
        """Whether a sequence may join the running ones."""
        together = (sequence, *running)
        coming = sum(map(self._coming, together))
        # Nothing is evicted for a sequence that has to wait all the same.
        if running and not (self._fit([room(one) for one in together]) and self.bound.has_room(coming)):
            return False
        return self.bound.make_room(coming) or not running

    def outgrown(self, running: Collection[Sequence]) -> bool:
        """Whether the running sequences have grown past the limit."""
        return not (self.bound.make_room() and self._fit([len(one.context) for one in running]))

    def refusal(self, sequence: Sequence) -> Broken | None:
        """What becomes of a sequence that can't run, not even alone; None if it can."""
        needed = self._footprint.bytes_of(room(sequence))
        if self.bound.holds_alone(needed):
            return None
        message = (
            f"this model's worker may hold {self.bound.limit_bytes or 0:,} bytes, too few for a prompt of"
            f" {len(sequence.prompt):,} tokens: its KV states take {needed:,.0f}"
        )
        return Broken(sequence.key, message, "prompt" if sequence.speech is None else "messages")

    def _coming(self, sequence: Sequence) -> float:
        """Bytes that its KV states are still to take soon. They are copied once: what joins a batch is kept, too."""
        needed = self._footprint.bytes_of(room(sequence))
        if sequence.emitted:
            return needed - self._footprint.bytes_of(len(sequence.context))
        return 2 * needed - self._footprint.bytes_of(sequence.read)

    def _fit(self, lengths: list[int]) -> bool:
        """Whether rows of these lengths fit, in buckets; together in one batch they never take less."""
        per_token, left = self._footprint.per_token, self._limit - self._footprint.fixed * len(lengths)
        return per_token * len(lengths) * max(lengths) <= left or per_token * padded(lengths, self.own_cost) <= left


def room(sequence: Sequence) -> int:
    """The tokens that a sequence takes soon: those it has, and up to HEADROOM more."""
    known = len(sequence.prompt) + len(sequence.emitted)
    return known + min(sequence.remaining, HEADROOM)


def footprint(model: Any, weights: float = 0.0) -> Footprint:
    """The memory that a model's cache takes after one token, as its arrays' shapes say: nothing is computed. `weights`
    is the size of the model's weights in bytes. Engine thread only."""
    cache = make_prompt_cache(model)
    model(mx.array([[0]]), cache=cache)
    layers = list(flat(cache))
    growing = [layer for layer in layers if getattr(layer, "keys", None) is not None]
    per_token = [layer.nbytes / layer.keys.shape[2] for layer in growing]
    windows = [(getattr(layer, "max_size", None), size) for layer, size in zip(growing, per_token, strict=True)]
    return Footprint(
        sum(per_token),
        sum(layer.nbytes for layer in layers if layer not in growing),
        weights,
        tuple((window, size) for window, size in windows if window is not None),
    )
