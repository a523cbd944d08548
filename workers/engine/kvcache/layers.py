"""What is done to caches as wholes, to each of their layers alike. Ranks that follow are told of it."""

from __future__ import annotations

from typing import Any

from mlx_lm.models.cache import ArraysCache

from mlx_server.workers.engine.kvcache.flatten import flat
from mlx_server.workers.engine.ranks.followed import FollowedCache, number_of
from mlx_server.workers.engine.ranks.orders import Extend, Extract, Keep, Merge, Pad, Shorten, Unpad


def merged(caches: list[list[Any]]) -> list[Any]:
    """The caches of several rows, or of one, as a batch's."""
    layers = [layers[0].merge(list(layers)) for layers in zip(*caches, strict=True)]
    first = caches[0]
    if isinstance(first, FollowedCache):
        return first.make(layers, lambda made: Merge(made, [number_of(cache) for cache in caches]))
    return layers


def extend(cache: list[Any], other: list[Any]) -> None:
    """Add the rows of another batch's cache."""
    for layer, more in zip(cache, other, strict=True):
        layer.extend(more)
    if isinstance(cache, FollowedCache):
        cache.tell(Extend(cache.number, number_of(other)))


def extracted(cache: list[Any], row: int, *, own: bool = False) -> list[Any]:
    """A row of a batch's cache by itself; `own`: without the batch's buffers, of which recurrent states are slices."""
    layers = [layer.extract(row) for layer in cache]
    if own:
        own_states(layers)
    if isinstance(cache, FollowedCache):
        return cache.make(layers, lambda made: Extract(made, cache.number, row, own))
    return layers


def own_states(cache: list[Any]) -> None:
    """Have a row's recurrent states in memory of their own: they are slices of what a chunk or a batch took."""
    for layer in flat(cache):
        if isinstance(layer, ArraysCache):
            layer.filter([0])


def keep(cache: list[Any], rows: list[int]) -> None:
    """Drop all rows of a batch's cache but these."""
    for layer in cache:
        layer.filter(rows)
    if isinstance(cache, FollowedCache):
        cache.tell(Keep(cache.number, rows))


def pad(cache: list[Any], lengths: list[int], padding: list[int]) -> None:
    """Prepare for rows of these lengths in tokens, padded on the right with so many."""
    for layer in cache:
        layer.prepare(lengths=lengths, right_padding=padding)
    if isinstance(cache, FollowedCache):
        cache.tell(Pad(cache.number, lengths, padding))


def unpad(cache: list[Any]) -> None:
    """Take the padding that was read into account."""
    for layer in cache:
        layer.finalize()
    if isinstance(cache, FollowedCache):
        cache.tell(Unpad(cache.number))


def shorten(cache: list[Any], tokens: int, length: int) -> bool:
    """Cut a row's cache of `tokens` tokens to the first `length`; False where it can't be cut there, and is of no use
    any more."""
    surplus = tokens - length
    if surplus and any(layer.trim(surplus) != surplus for layer in cache):
        return False
    for layer in cache:
        layer.state = layer.state
    for layer in flat(cache):
        if surplus and type(layer).__name__ == "KVCache" and layer.keys is not None:
            # A long buffer would be copied for a short beginning, with the next token.
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
    if isinstance(cache, FollowedCache):
        cache.tell(Shorten(cache.number, tokens, length))
    return True
