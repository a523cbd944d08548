"""Sliding windows that keep every token say what mlx-lm's say, which forget."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache

from mlx_server.workers.engine.decode.prefill import can_cut
from mlx_server.workers.engine.kvcache.cache_file import read_cache, snapshot, write
from mlx_server.workers.engine.kvcache.holes import HoledKVCache, closed, cut, is_cuttable
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.kvcache.prefix_index import Beginning
from mlx_server.workers.engine.kvcache.whole_windows import BatchWindowKVCache, WindowKVCache, keep_windows_whole

pytestmark = pytest.mark.model

LENGTHS = (9, 40, 23)
"""Tokens of the rows: the tiny model's window is 24."""


@pytest.fixture
def models(load_tiny: Callable[[str], Any], tiny_model: Callable[[str], Path]) -> tuple[Any, Any]:
    """A model as it is, and with whole windows."""
    from mlx_lm.utils import load_model

    whole = load_model(tiny_model("gemma3_text"))[0]
    assert keep_windows_whole(whole) == 1
    return load_tiny("gemma3_text"), whole


def last(model: Any, tokens: list[int], width: int) -> mx.array:
    """The logits [width, V] of the latest tokens, read in two passes."""
    cache = make_prompt_cache(model)
    model(mx.array([tokens[:-width]]), cache=cache)
    logits: mx.array = model(mx.array([tokens[-width:]]), cache=cache)[0]
    return logits


def test_rows_are_cut_and_read_on_as_a_ring_reads_them(models: tuple[Any, Any]) -> None:
    plain, whole = models
    rng = random.Random(1)
    rows = [[rng.randrange(5, 200) for _ in range(length)] for length in LENGTHS]
    caches = [make_prompt_cache(whole) for _ in rows]
    for row, own in zip(rows, caches, strict=True):
        whole(mx.array([row]), cache=own)
    assert is_cuttable(caches[0])
    assert can_cut(caches[0])
    cache = merged(caches)
    for width in (4, 1, 3, 1, 6, 5):
        new = [[rng.randrange(5, 200) for _ in range(width)] for _ in rows]
        logits = whole(mx.array(new), cache=cache)
        for number, (row, more) in enumerate(zip(rows, new, strict=True)):
            assert mx.allclose(logits[number], last(plain, row + more, width), atol=1e-4), (width, number)
        surplus = [rng.randrange(width) for _ in rows]
        rows = [row + more[: width - less] for row, more, less in zip(rows, new, surplus, strict=True)]
        cache = cut(cache, surplus)
    assert isinstance(cache[0], HoledKVCache)
    cache = closed(cache)
    assert isinstance(cache[0], BatchWindowKVCache)
    for number, row in enumerate(rows):
        alone = [layer.extract(number) for layer in cache]
        assert isinstance(alone[0], WindowKVCache)
        assert mx.allclose(whole(mx.array([[7]]), cache=alone)[0], last(plain, [*row, 7], 1), atol=1e-4)


def test_one_row_reads_token_by_token_as_in_one_pass(models: tuple[Any, Any]) -> None:
    plain, whole = models
    tokens, cache = list(range(5, 65)), make_prompt_cache(whole)
    for token in tokens:
        logits = whole(mx.array([[token]]), cache=cache)
    assert mx.allclose(logits[0], last(plain, tokens, 1), atol=1e-4)


def test_a_file_knows_the_window(models: tuple[Any, Any], tmp_path: Path) -> None:
    plain, whole = models
    tokens, cache = list(range(5, 45)), make_prompt_cache(whole)
    whole(mx.array([tokens]), cache=cache)
    write(tmp_path / "a", Beginning("", np.array(tokens, np.int32)), taken := snapshot(cache))
    found = read_cache(tmp_path / "a", taken.classes)
    assert mx.allclose(whole(mx.array([[7]]), cache=found)[0], last(plain, [*tokens, 7], 1), atol=1e-4)


def test_other_models_are_left_alone(load_tiny: Callable[[str], Any]) -> None:
    for architecture in ("llama", "mamba"):
        model = load_tiny(architecture)
        assert keep_windows_whole(model) == 0
        assert not any(isinstance(layer, RotatingKVCache) for layer in make_prompt_cache(model))
