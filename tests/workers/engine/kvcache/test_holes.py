"""Rows that are cut each by another number of tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache, make_prompt_cache

from mlx_server.workers.engine.kvcache.holes import CLOSED_ABOVE, HoledKVCache, closed, cut, is_cuttable
from mlx_server.workers.engine.kvcache.layers import merged

LENGTHS = (9, 30, 17)


def read(model: Any, tokens: list[int]) -> list[Any]:
    cache: list[Any] = make_prompt_cache(model)
    mx.eval(model(mx.array([tokens]), cache=cache))
    return cache


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("window", [None, 12])
def test_rows_with_holes_are_read_on_as_if_there_were_none(
    load_tiny: Callable[[str], Any], architecture: str, window: int | None
) -> None:
    """Several cuts and steps of several widths against rows by themselves; the mask with a window, too."""
    model, rng = load_tiny(architecture), random.Random(architecture)
    rows = [[rng.randrange(5, 200) for _ in range(length)] for length in LENGTHS]
    cache = merged([read(model, row) for row in rows])
    for width in (4, 1, 3, 1, 1, 5):
        new = [[rng.randrange(5, 200) for _ in range(width)] for _ in rows]
        logits = model(mx.array(new), cache=cache)
        for number, (row, more) in enumerate(zip(rows, new, strict=True)):
            alone = model(mx.array([row + more]))[0, -width:]
            assert mx.allclose(logits[number], alone, atol=1e-4), (width, number)
        surplus = [rng.randrange(width) for _ in rows]
        rows = [row + more[: width - less] for row, more, less in zip(rows, new, surplus, strict=True)]
        cache = cut(cache, surplus)
    assert isinstance(cache[0], HoledKVCache)
    assert cache[0].offset.tolist() == [len(row) for row in rows]
    mask = cache[0].make_mask(2, window_size=window)
    for number, row in enumerate(rows):
        seen = mask[number, 0].sum(-1).tolist()
        assert seen == [min(len(row) + 1, window or 99), min(len(row) + 2, window or 99)]
    whole = closed(cache)
    for number, row in enumerate(rows):
        for layer, alone in zip(whole, read(model, row), strict=True):
            own = layer.extract(number)
            assert own.offset == len(row)
            assert mx.allclose(own.keys, alone.keys[..., : len(row), :], atol=1e-4)
            assert mx.allclose(own.values, alone.values[..., : len(row), :], atol=1e-4)


@pytest.mark.model
def test_equal_cuts_leave_no_holes_and_many_are_closed(load_tiny: Callable[[str], Any]) -> None:
    model = load_tiny("llama")
    cache = merged([read(model, [5] * length) for length in LENGTHS])
    model(mx.array([[7] * 4] * 3), cache=cache)
    cache = cut(cache, [2, 2, 2])
    assert not isinstance(cache[0], HoledKVCache)
    assert cache[0].offset.tolist() == [length + 2 for length in LENGTHS]
    for _ in range(CLOSED_ABOVE // 3 + 2):
        model(mx.array([[7] * 5] * 3), cache=cache)
        cache = cut(cache, [4, 3, 4])
        assert cache[0]._idx <= max(LENGTHS) + 2 + 2 * (CLOSED_ABOVE // 3 + 2) + CLOSED_ABOVE
    assert cache[0].size() < max(LENGTHS) + 2 * CLOSED_ABOVE


def test_a_window_that_forgets_can_not_be_cut() -> None:
    from mlx_lm.models.cache import RotatingKVCache

    assert is_cuttable([KVCache(), KVCache()])
    assert not is_cuttable([KVCache(), RotatingKVCache(16)])
