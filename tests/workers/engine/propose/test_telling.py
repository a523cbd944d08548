"""Hidden states that are kept beside KV states."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.base import create_attention_mask

from mlx_server.workers.engine.kvcache.holes import HoledKVCache, closed, cut
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.propose.telling import TellingModel, hidden_of

pytestmark = pytest.mark.model


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Any:
    from mlx_lm.utils import load_model

    return load_model(tiny_model("llama"))[0]


def states(model: Any, tokens: list[int]) -> mx.array:
    """What comes out of the first layer and the last norm, computed step by step: [1, T, 2 D]."""
    inner = model.model
    first = inner.layers[0](
        inner.embed_tokens(mx.array([tokens])), create_attention_mask(mx.zeros((1, len(tokens), 1)))
    )
    return mx.concatenate([first, inner(mx.array([tokens]))], axis=-1)


def test_rows_that_are_cut_keep_the_states_of_what_is_left(model: Any) -> None:
    rng = random.Random(2)
    rows = [[rng.randrange(5, 200) for _ in range(length)] for length in (9, 20, 14)]
    expected: list[mx.array] = []
    telling = TellingModel(model, [model.model.layers[0], model.model.norm])
    caches = [telling.make_cache() for _ in rows]
    for row, cache in zip(rows, caches, strict=True):
        telling(mx.array([row]), cache=cache)
        assert mx.allclose(hidden_of(cache[-1], [(0, 2, len(row))]), states(model, row)[:, 2:], atol=1e-4)
    together = merged(caches)
    for width in (4, 1, 3, 5):
        new = [[rng.randrange(5, 200) for _ in range(width)] for _ in rows]
        telling(mx.array(new), cache=together)
        surplus = [rng.randrange(width) for _ in rows]
        rows = [row + more[: width - less] for row, more, less in zip(rows, new, surplus, strict=True)]
        together = cut(together, surplus)
    assert isinstance(together[-1], HoledKVCache)
    expected = [states(model, row) for row in rows]
    for cache in (together, closed(together)):
        found = hidden_of(cache[-1], [(number, 3 + number, len(row)) for number, row in enumerate(rows)])
        for number in range(len(rows)):
            own = expected[number][0, 3 + number :]
            assert mx.allclose(found[number, : len(own)], own, atol=1e-4)


def test_a_model_that_tells_is_the_same_model(model: Any) -> None:
    tokens = mx.array([[5, 6, 7]])
    before = model(tokens)
    names = [name for name, _ in model.named_modules()]
    telling = TellingModel(model, model.model.layers)
    assert mx.array_equal(telling(tokens), before)
    assert mx.array_equal(telling(tokens, cache=telling.make_cache()), before)
    assert [name for name, _ in telling.named_modules()] == names
    assert telling.args is model.args
