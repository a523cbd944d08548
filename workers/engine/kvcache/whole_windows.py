"""Sliding windows that keep every token, so that the latest can be forgotten again: a ring has overwritten what comes
back into the window then.

They take the memory of layers without a window, and are read through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache, RotatingKVCache, make_prompt_cache


class WindowKVCache(KVCache):  # type: ignore[misc]
    """One row's keys and values of a layer that looks at the latest `window` tokens."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:  # noqa: N803
        """What each of the next N tokens may look at: bool [N, columns], or what mlx-lm has for all of them."""
        window = window_size or self.window
        return super().make_mask(N, return_array=return_array, window_size=window if self.offset + N > window else None)

    @classmethod
    def merge(cls, caches: list[WindowKVCache]) -> BatchWindowKVCache:
        """The caches of several rows as one batch's."""
        return BatchWindowKVCache.of(BatchKVCache.merge(caches), caches[0].window)

    @property
    def state(self) -> Any:
        """What it holds, as arrays and plain values."""
        return *super().state, self.window

    @state.setter
    def state(self, state: Any) -> None:
        *own, self.window = state
        KVCache.state.fset(self, own)


class BatchWindowKVCache(BatchKVCache):  # type: ignore[misc]
    """The same of several rows."""

    window: int

    @classmethod
    def of(cls, layer: BatchKVCache, window: int) -> BatchWindowKVCache:
        """What a batch's layer holds, seen through a window; the layer must not be used any more."""
        found = cls([0])
        found.state, found.window = layer.state, window
        return found

    def make_mask(
        self,
        N: int,  # noqa: N803
        return_array: bool = False,
        window_size: int | None = None,
    ) -> mx.array:
        """What each of the next N tokens may look at: bool [B, 1, N, columns]."""
        mask: mx.array = super().make_mask(N, return_array, window_size=window_size or self.window)
        return mask

    def extract(self, idx: int) -> WindowKVCache:
        """One row of a batch by itself."""
        found, alone = WindowKVCache(self.window), super().extract(idx)
        found.keys, found.values, found.offset = alone.state
        return found


CLASSES = {one.__name__: one for one in (WindowKVCache, BatchWindowKVCache)}


def keep_windows_whole(model: Any) -> int:
    """Have a model's caches made so; how many of its layers have a window. Engine thread only."""
    make_plain: Callable[[], list[Any]] | None = getattr(model, "make_cache", None)
    count = sum(is_window(layer) for layer in make_prompt_cache(model))
    if not count or make_plain is None:
        return 0
    model.make_cache = lambda: [WindowKVCache(one.max_size) if is_window(one) else one for one in make_plain()]
    return count


def is_window(layer: Any) -> bool:
    """Whether a layer forgets all but its latest tokens."""
    return type(layer) is RotatingKVCache and not layer.keep
