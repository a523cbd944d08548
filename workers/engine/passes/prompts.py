"""Passes over prompts, of which only the states in the cache are wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.kvcache.layers import pad, unpad
from mlx_server.workers.engine.ranks.model import states_only
from mlx_server.workers.engine.runtime import vector_math


@contextlib.contextmanager
def for_its_states(cache: list[Any]) -> Iterator[None]:
    """A context in which the model is called only for what it leaves in its cache: after the keys and values of its
    last layer, nothing is computed that nobody asks for."""
    last = cache[-1]
    update = getattr(last, "update_and_fetch", None)
    if update is None:
        yield
        return

    def updated(*arguments: Any, **options: Any) -> Any:
        found = update(*arguments, **options)
        vector_math.lazy.set(True)
        return found

    before = vector_math.lazy.set(False)
    last.update_and_fetch = updated
    try:
        yield
    finally:
        del last.update_and_fetch
        vector_math.lazy.reset(before)


def read_into(model: Any, tokens: mx.array, cache: list[Any]) -> None:
    """Have a model read tokens [B, T] into a cache."""
    before = states_only.set(True)
    try:
        with for_its_states(cache):
            model(tokens, cache=cache)
    finally:
        states_only.reset(before)
    mx.eval([layer.state for layer in cache])


def read_together(model: Any, rows: list[list[int]], cache: list[Any]) -> None:
    """Read the rest of several prompts at once into their batch's cache; the shorter ones are padded on the right."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    padding = [longest - length for length in lengths]
    if any(padding):
        pad(cache, lengths, padding)
    read_into(model, mx.array([row + [0] * missing for row, missing in zip(rows, padding, strict=True)]), cache)
    if any(padding):
        unpad(cache)
        mx.eval([layer.state for layer in cache])
    mx.clear_cache()
