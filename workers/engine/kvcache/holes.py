"""Rows of one batch, each cut by another number of tokens: what is cut stays as a hole until the rows are closed up."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx_lm.models.cache import ArraysCache, BatchKVCache, KVCache

from mlx_server.workers.engine.kvcache.flatten import each, flat
from mlx_server.workers.engine.kvcache.quantised import QuantisedKVCache
from mlx_server.workers.engine.kvcache.whole_windows import BatchWindowKVCache, WindowKVCache

CLOSED_ABOVE = 64
"""Holes are closed up when there are more columns of them than this, and than one in WORTH_CLOSING of all."""

WORTH_CLOSING = 4

HOLE = -1
"""The place of a column that holds nothing."""


class Holes:
    """Which columns of a batch's cache hold tokens, the same for all layers. Engine thread only."""

    def __init__(self, left_padding: list[int], columns: int) -> None:
        places = np.arange(columns, dtype=np.int32)[None] - np.array(left_padding, np.int32)[:, None]
        self._places: npt.NDArray[np.int32] = np.maximum(places, HOLE)

    def places(self, columns: int) -> npt.NDArray[np.int32]:
        """The place in its row of each of `columns` columns, HOLE where there is none: int32 [B, columns]. Columns that
        have come since the last cut hold a token in every row."""
        new = columns - self._places.shape[1]
        counts = (self._places != HOLE).sum(1, dtype=np.int32)
        return np.concatenate([self._places, counts[:, None] + np.arange(new, dtype=np.int32)], 1)

    def cut(self, columns: int, tokens: list[int]) -> None:
        """Make holes of the last `tokens` columns of each row, of `columns` in all."""
        self._places = self.places(columns)
        for row, surplus in enumerate(tokens):
            if surplus:
                self._places[row, columns - surplus :] = HOLE

    def order(self, columns: int) -> tuple[npt.NDArray[np.int32], list[int]]:
        """The columns that close the rows up at their ends, int32 [B, C] for the C of the longest row, and the left
        padding of each row."""
        filled = self.places(columns) != HOLE
        lengths = filled.sum(1)
        order = np.argsort(filled, axis=1, kind="stable").astype(np.int32)
        return order[:, columns - lengths.max() :], [int(lengths.max() - length) for length in lengths]

    def are_worth_closing(self, columns: int) -> bool:
        """Whether so many of `columns` columns hold nothing in any row that is worth a copy of all."""
        surplus = columns - int((self.places(columns) != HOLE).sum(1).max())
        return surplus > max(CLOSED_ABOVE, columns // WORTH_CLOSING)


class HoledKVCache(BatchKVCache):  # type: ignore[misc]
    """A layer of a batch with holes. Where its place in a row matters, a token's is what it is without holes."""

    def __init__(self, layer: BatchKVCache, holes: Holes) -> None:
        self.state = layer.state
        self.window = layer.window if isinstance(layer, BatchWindowKVCache) else None
        self._right_padding = None
        self._holes = holes

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None, **_: Any) -> mx.array:  # noqa: N803
        """What each of the next N tokens may look at: bool [B, 1, N, columns]."""
        places = self._holes.places(self._idx + N)[:, None, None, :]
        asking = places[..., -N:].swapaxes(2, 3)
        mask = (places != HOLE) & (places <= asking)
        if (window := window_size or self.window) is not None:
            mask &= asking < places + window
        return mx.array(mask)


def is_cuttable(cache: list[Any]) -> bool:
    """Whether the rows of a cache, a single row's or a batch's, can be cut each by another number of tokens."""
    kinds = (KVCache, BatchKVCache, HoledKVCache, WindowKVCache, BatchWindowKVCache)
    return all(type(layer) in kinds or isinstance(layer, QuantisedKVCache) for layer in cache)


def cut(cache: list[Any], tokens: list[int]) -> list[Any]:
    """A batch's cache without the last `tokens` of each row; an array of them is on none of the layers any more.
    Recurrent layers stay as they are."""
    layers = [layer for layer in flat(cache) if not isinstance(layer, ArraysCache)]
    if not layers:
        return cache
    if least := min(tokens):
        for layer in layers:
            layer.trim(least)
        return cut(cache, [count - least for count in tokens])
    if not any(tokens):
        return cache
    first = layers[0]
    if not isinstance(first, HoledKVCache):
        holes = Holes(first.left_padding.tolist(), first._idx)

        def with_holes(layer: Any) -> Any:
            return layer if isinstance(layer, ArraysCache) else HoledKVCache(layer, holes)

        return cut([each(layer, with_holes) for layer in cache], tokens)
    first._holes.cut(first._idx, tokens)
    surplus = mx.array(tokens)
    for layer in layers:
        layer.offset = layer.offset - surplus
    return closed(cache) if first._holes.are_worth_closing(first._idx) else cache


def columns_of(layer: Any, row: int, start: int, stop: int) -> npt.NDArray[np.int32]:
    """The columns int32 [T] of a layer, a row's own or a batch's, that hold the places of a row from `start` up to
    `stop`."""
    if isinstance(layer, HoledKVCache):
        places = layer._holes.places(layer._idx)[row]
        return np.flatnonzero((start <= places) & (places < stop)).astype(np.int32)
    padding = layer.left_padding.tolist()[row] if isinstance(layer, BatchKVCache) else 0
    return np.arange(start + padding, stop + padding, dtype=np.int32)


def closed(cache: list[Any]) -> list[Any]:
    """The same cache without holes."""
    first = next((layer for layer in flat(cache) if isinstance(layer, HoledKVCache)), None)
    if first is None:
        return cache
    order, padding = first._holes.order(first._idx)
    columns = mx.array(order)[:, None, :, None]

    def close(layer: Any) -> Any:
        if not isinstance(layer, HoledKVCache):
            return layer
        batch = BatchKVCache(padding)
        batch.keys = mx.take_along_axis(layer.keys, columns, axis=2)
        batch.values = mx.take_along_axis(layer.values, columns, axis=2)
        batch.offset, batch._idx = layer.offset, order.shape[1]
        return batch if layer.window is None else BatchWindowKVCache.of(batch, layer.window)

    return [each(layer, close) for layer in cache]
