"""The hidden states of mlx-lm's language models, which embeddings of texts are made of."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Several
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.workers.engine.embed.embedder import HiddenStates
from mlx_server.workers.engine.embed.encoder_models import padded
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.passes.inner import inner_part
from mlx_server.workers.errors import one_line

log = logging.getLogger(__name__)


def inner_states(model: Any) -> HiddenStates | None:
    """A function that computes the last norm's output, without a cache; None for a model whose parts have other names.

    A token sees only those before it, so padding on the right changes nothing.
    """
    inner = inner_part(model)
    if inner is None:
        return None

    def hidden_states(items: Several[Item]) -> tuple[mx.array, mx.array]:
        ids, mask, _ = padded(items)
        # Some want to be told that there is no cache.
        return inner(ids, None), mask

    return hidden_states


def alike_in_batches(hidden_states: HiddenStates, vocab_size: int) -> bool:
    """Whether inputs of several lengths have the same hidden states together as alone. Raises ValueError, or what the
    model raises, if there are none."""
    items = [Item(tuple((7 * at + row) % vocab_size for at in range(length))) for row, length in enumerate((5, 2, 1))]
    together, _ = hidden_states(items)
    for row, item in enumerate(items):
        alone, _ = hidden_states([item])
        if alone.shape[:2] != (1, len(item.ids)):
            raise ValueError(f"hidden states of shape {alone.shape} are of no use")
        one, other = (np.array(states.astype(mx.float32)) for states in (alone[0], together[row, : len(item.ids)]))
        if not np.isfinite(one).all():
            raise ValueError("hidden states that are not finite are of no use")
        if np.abs(one - other).max() > 0.02 * np.abs(one).max():
            return False
    return True


def batching_of(hidden_states: HiddenStates, vocab_size: int, batch_tokens: int) -> int | None:
    """The number of tokens to compute together: 1 if inputs have to go alone, None if there are no hidden states."""
    try:
        return batch_tokens if alike_in_batches(hidden_states, vocab_size) else 1
    # An architecture that wants a cache, or other arguments, raises anything.
    except Exception as error:  # noqa: BLE001
        log.info("this model makes no embeddings: %s", one_line(error))
        return None
