"""KV states in few bits.

Each token's keys and values are quantised as they come, and attention reads nothing else, not even of the tokens that
came with it. So they are the same however a prompt was cut into chunks, and in a batch as alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import CacheList, KVCache

from mlx_server.workers.engine.runtime import platform

GROUPS = (64, 32)
"""Numbers that share a scale and a bias: the first of these by which heads can be divided."""

Packed = tuple[mx.array, mx.array, mx.array]
"""Keys or values as mx.quantize gives them: packed uint32 [B, heads, T, size * bits / 32], scales and biases
[B, heads, T, size / group]."""


class QuantisedKVCache(CacheList):  # type: ignore[misc]
    """A layer's keys and values, held in `bits` bits and read as numbers of the model's own type.

    It is a row's cache, or a batch's with left padding, as mlx-lm's caches are that it consists of: one for what is
    packed, one for the scales, one for the biases.
    """

    def __init__(self, bits: int = 8) -> None:
        """`bits` is what mx.quantize takes: 4, 5, 6 or 8."""
        super().__init__(KVCache(), KVCache(), KVCache())
        self._bits = bits
        self._group = GROUPS[0]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> Any:
        """Add the keys and values [B, heads, T, size] of T tokens; those of all tokens. Raises ValueError for heads
        that can't be divided into groups."""
        self._group = group_of(keys.shape[-1], values.shape[-1])
        new = zip(self._quantised(keys), self._quantised(values), strict=True)
        for cache, both in zip(self.caches, new, strict=True):
            cache.update_and_fetch(*both)
        return self.keys_and_values()

    def keys_and_values(self) -> Any:
        """The keys and the values [B, heads, T, size] of all tokens."""
        keys, values = self._packed()
        return numbers(keys, self._bits, self._group), numbers(values, self._bits, self._group)

    @property
    def offset(self) -> Any:
        """Tokens in the cache; of a batch, those of each row [B]."""
        return self.caches[0].offset

    def make_mask(self, *arguments: Any, **options: Any) -> Any:
        """As the caches that it consists of."""
        return self.caches[0].make_mask(*arguments, **options)

    def extract(self, idx: int) -> QuantisedKVCache:
        """One row of a batch by itself."""
        return self._with(cache.extract(idx) for cache in self.caches)

    @classmethod
    def merge(cls, layers: list[QuantisedKVCache]) -> QuantisedKVCache:
        """The caches of several rows as one batch's."""
        first = max(layers, key=lambda layer: layer.size())
        return first._with(parts[0].merge(list(parts)) for parts in zip(*(one.caches for one in layers), strict=True))

    @property
    def state(self) -> Any:
        """What it holds, as arrays and plain values."""
        return super().state, self._bits, self._group

    @state.setter
    def state(self, state: Any) -> None:
        caches, self._bits, self._group = state
        CacheList.state.fset(self, caches)

    def _with(self, caches: Iterable[Any]) -> QuantisedKVCache:
        other = type(self)(self._bits)
        other.caches, other._group = tuple(caches), self._group
        return other

    def _quantised(self, new: mx.array) -> Packed:
        return mx.quantize(new, group_size=self._group, bits=self._bits)

    def _packed(self) -> tuple[Packed, Packed]:
        keys, values = zip(*(cache.keys_and_values() for cache in self.caches), strict=True)
        return keys, values


class PackedKVCache(QuantisedKVCache):
    """The same, read as it is held: by these two names mlx-lm's attention knows that it has to."""

    @property
    def bits(self) -> int:
        """Bits of a number."""
        return self._bits

    @property
    def group_size(self) -> int:
        """Numbers that share a scale."""
        return self._group

    def keys_and_values(self) -> tuple[Packed, Packed]:
        """The keys and the values [B, heads, T, size] of all tokens, packed."""
        return self._packed()


CLASSES = {one.__name__: one for one in (QuantisedKVCache, PackedKVCache)}


def group_of(*sizes: int) -> int:
    """The group for heads of these sizes. Raises ValueError if there is none."""
    for group in GROUPS:
        if not any(size % group for size in sizes):
            return group
    raise ValueError(f"heads of {max(sizes)} numbers can't be divided into groups of {GROUPS[0]} or {GROUPS[-1]}")


def numbers(packed: Packed, bits: int, group: int) -> mx.array:
    """What was packed, as numbers [B, heads, T, size] of the scales' type."""
    codes, scales, biases = packed
    if bits not in (4, 8) or not platform.on_cpu():
        return mx.dequantize(codes, scales, biases, group, bits)
    # On a CPU mx.dequantize takes more than twice as long.
    codes = mx.contiguous(codes).view(mx.uint8)
    if bits == 4:
        pairs = codes.astype(mx.uint16)
        codes = ((pairs | (pairs << 4)) & 0x0F0F).view(mx.uint8)
    grouped = codes.reshape(-1, group).astype(scales.dtype)
    return (grouped * scales.reshape(-1, 1) + biases.reshape(-1, 1)).reshape(*scales.shape[:-1], -1)
