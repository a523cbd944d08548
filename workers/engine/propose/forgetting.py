"""Rows of a batch that forget their latest tokens, each another number of them.

Layers that keep every token are cut. A recurrent layer can't forget: it goes back to where it was before the step, and
the tokens that are to stay are read once more, by all layers, since each reads what comes out of those before it.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache

from mlx_server.workers.engine.kvcache.holes import cut, is_cuttable
from mlx_server.workers.engine.passes.prompts import for_its_states

States = list[list[Any]]
"""What each recurrent layer holds."""


def can_forget(cache: list[Any]) -> bool:
    """Whether all layers of a cache are of these kinds."""
    return all(isinstance(layer, ArraysCache) or is_cuttable([layer]) for layer in cache)


def states_of(cache: list[Any]) -> States:
    """What a cache's recurrent layers hold now; nothing if it has none."""
    return [list(layer.cache) for layer in cache if isinstance(layer, ArraysCache)]


def forget(model: Any, cache: list[Any], before: States, tokens: list[list[int]], surplus: list[int]) -> list[Any]:
    """A cache without the last `surplus` tokens of each row, all of which have just read as many `tokens` [B, T]; an
    array of them is on none of the layers any more. `before` is what its recurrent layers held before that."""
    if before and any(surplus):
        width = len(tokens[0])
        kept = [row[: width - less] for row, less in zip(tokens, surplus, strict=True)]
        surplus = read_again(model, cache, before, kept, width)
    return shortened(cache, surplus)


def shortened(cache: list[Any], surplus: list[int]) -> list[Any]:
    """A cache, a single row's own or a batch's, whose layers that keep every token have lost the last `surplus` of each
    row; an array of them is on none of the layers any more."""
    if len(surplus) > 1:
        return cut(cache, surplus)
    for layer in cache:
        if not isinstance(layer, ArraysCache):
            layer.trim(surplus[0])
    return cache


def read_again(model: Any, cache: list[Any], before: States, kept: list[list[int]], width: int) -> list[int]:
    """Go back by `width` tokens and read those that are `kept` of each row, padded on the right; how many of these each
    row has to forget, where layers keep every token."""
    lengths, states = [len(row) for row in kept], iter(before)
    longest = max(lengths)
    recurrent = [layer for layer in cache if isinstance(layer, ArraysCache)]
    for layer in cache:
        if isinstance(layer, ArraysCache):
            layer.cache = next(states)
            if min(lengths) < longest:
                layer.prepare(lengths=lengths)
        else:
            layer.trim(width)
    with for_its_states(cache):
        model(mx.array([[*row, *[0] * (longest - len(row))] for row in kept], mx.uint32), cache=cache)
    for layer in recurrent:
        layer.finalize()
    mx.eval([layer.state for layer in recurrent])
    return [longest - length for length in lengths]
