"""Several calls of a model in one pass over its weights: a chunk of a prompt along with the next tokens of a batch.

All tokens stand below each other, as rows of one token each. That is all the same to what a model does token by token;
only in attention each call's tokens see their own keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_server.workers.engine.passes.inner import inner_part, only_last

Shapes = list[tuple[int, int]]
"""Rows and tokens of each call: (B, T)."""

KERNEL_ROWS = 16
"""Kernels of matrix products like so many rows, or a multiple of that."""


class Call(NamedTuple):
    """Token ids [B, T], and the cache of those before them: a row's own, or a batch's."""

    ids: mx.array
    cache: list[Any]


class Parts:
    """Keys, values or masks of several calls. A model that looks into them can't have calls joined."""

    def __init__(self, arrays: list[Any], shapes: Shapes) -> None:
        self.arrays = arrays
        self.shapes = shapes


class JoinedLayer:
    """One layer's caches of several calls, in the place of one cache of N rows."""

    def __init__(self, caches: list[Any], shapes: Shapes, offset: mx.array) -> None:
        """`offset` [N] is the number of tokens before each of the N tokens."""
        self._caches = caches
        self._shapes = shapes
        self.offset = offset

    def make_mask(self, _: int, **options: Any) -> Parts:
        """The mask of each call."""
        masks = [one.make_mask(tokens, **options) for one, (_, tokens) in zip(self._caches, self._shapes, strict=True)]
        return Parts(masks, self._shapes)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Parts, Parts]:
        """Add keys and values [N, heads, 1, size]; all of each call."""
        own = zip(self._caches, split(keys, self._shapes), split(values, self._shapes), strict=True)
        found = [cache.update_and_fetch(*new) for cache, *new in own]
        return tuple(Parts(list(arrays), self._shapes) for arrays in zip(*found, strict=True))  # type: ignore[return-value]


class JoinedModel:
    """A model, one call of which may read a chunk of a prompt, too."""

    def __init__(self, model: Any) -> None:
        """The model has an inner part."""
        self._model = model
        self._inner = inner_part(model)
        self._waiting: Call | None = None

    def __call__(self, ids: mx.array, cache: list[Any]) -> mx.array:
        """Logits [B, T, V] of the model, which reads what waits along with this."""
        along = self.take_back()
        if along is None:
            logits: mx.array = self._model(ids, cache=cache)
            return logits
        return self.joined([along, Call(ids, cache)])

    @property
    def carries(self) -> bool:
        """Whether the next call reads more than it is asked for."""
        return self._waiting is not None

    def along(self, chunk: Call) -> None:
        """Have the next call read this, too."""
        self._waiting = chunk

    def take_back(self) -> Call | None:
        """What still waits for a call, and no longer does; None if nothing does."""
        waiting, self._waiting = self._waiting, None
        return waiting

    def joined(self, calls: list[Call]) -> mx.array:
        """Logits [B, T, V] of the last of these calls, all of which are made at once."""
        shapes: Shapes = [call.ids.shape for call in calls]  # type: ignore[misc]
        rows, tokens = shapes[-1]
        ids = mx.concatenate([call.ids.reshape(-1).astype(mx.uint32) for call in calls])
        places = mx.concatenate([places_of(call) for call in calls])
        layers = zip(*(call.cache for call in calls), strict=True)
        cache = [JoinedLayer(list(caches), shapes, places) for caches in layers]
        with only_last(self._inner, rows * tokens), attention_by_parts():
            logits: mx.array = self._model(ids[:, None], cache=cache)
        return logits.reshape(rows, tokens, -1)


def places_of(call: Call) -> mx.array:
    """How many tokens stand before each of a call's [B * T]."""
    rows, tokens = call.ids.shape
    before = mx.array(call.cache[0].offset).reshape(-1, 1)
    return mx.broadcast_to(before + mx.arange(tokens), (rows, tokens)).reshape(-1)


def split(joined: mx.array, shapes: Shapes) -> Iterator[mx.array]:
    """Of [N, heads, 1, size] each call's own [B, heads, T, size]."""
    start = 0
    for rows, tokens in shapes:
        own = joined[start : start + rows * tokens]
        yield own.reshape(rows, tokens, *own.shape[1::2]).swapaxes(1, 2)
        start += rows * tokens


@contextmanager
def attention_by_parts() -> Iterator[None]:
    """A context in which MLX's attention takes parts, each of which is computed as before."""
    attend = mx.fast.scaled_dot_product_attention

    def by_parts(queries: mx.array, keys: Parts, values: Parts, *, mask: Parts, **options: Any) -> mx.array:
        own = zip(split(queries, keys.shapes), keys.arrays, values.arrays, mask.arrays, strict=True)
        outputs = [attend(*call, mask=seen, **options).swapaxes(1, 2) for *call, seen in own]
        return mx.concatenate([one.reshape(-1, *one.shape[2:])[:, :, None] for one in outputs])

    mx.fast.scaled_dot_product_attention = by_parts  # type: ignore[assignment]
    try:
        yield
    finally:
        mx.fast.scaled_dot_product_attention = attend


def suited(tokens: int, beside: int) -> int:
    """As many of a chunk's `tokens` as make, with `beside` others, a number of rows that kernels like."""
    joined = (tokens + beside) // KERNEL_ROWS * KERNEL_ROWS
    return joined - beside if joined > beside else tokens
