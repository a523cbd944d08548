"""What is computed by numpy is what MLX computes."""

import copy
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache

from mlx_server.workers.engine.passes.prompts import for_its_states
from mlx_server.workers.engine.runtime import platform, vector_math

INF, NAN = float("inf"), float("nan")


def random(*shape: int, seed: int = 0) -> mx.array:
    return 3 * mx.random.normal(shape, key=mx.random.key(seed))


def same(one: mx.array, other: mx.array) -> bool:
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    return bool(mx.allclose(one, other, rtol=2e-5, atol=1e-6, equal_nan=True))


BATCH, QUERIES, KEYS = 2, 7, 200


def left_padded(*padding: int) -> mx.array:
    """A mask that hides the first keys of each row, and those after each query."""
    keys = mx.arange(KEYS)
    causal = mx.arange(KEYS - QUERIES, KEYS)[:, None] >= keys
    return causal & (keys >= mx.array(padding)[:, None, None, None])


def window(size: int) -> mx.array:
    """A mask that shows each query the newest keys."""
    behind = mx.arange(KEYS - QUERIES, KEYS)[:, None] - mx.arange(KEYS)
    return (behind >= 0) & (behind < size)


MASKS: dict[str, mx.array | str | None] = {
    "none": None,
    "causal": "causal",
    "a row each": left_padded(0, 31),
    "the same for all": left_padded(3)[0, 0],
    "added": mx.where(left_padded(0, 31), random(BATCH, 1, QUERIES, KEYS), -INF),
    "a sliding window": window(9),
    "a head each": random(1, 6, 1, KEYS) > 0,
    "added in another type": mx.where(left_padded(5), 0.5, -100).astype(mx.bfloat16),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_attention_is_that_of_the_library(mask: mx.array | str | None, groups: int) -> None:
    q = random(BATCH, QUERIES, 6, 16).swapaxes(1, 2)
    k = random(BATCH, groups, KEYS + 40, 16, seed=1)[:, :, 20 : 20 + KEYS]
    v = random(BATCH, groups, KEYS, 24, seed=2)
    arguments: Any = {"scale": 0.3, "mask": mask}
    assert q.shape[1] * BATCH * QUERIES * KEYS >= vector_math.LEAST
    theirs = vector_math.library_attention(q, k, v, **arguments)
    assert same(vector_math.attention(q, k, v, **arguments), theirs)
    blocks = vector_math.attention_by_blocks(q * 0.3, k, v, mask, 3)
    assert blocks is not None
    assert [block.shape[2] for block in blocks] == [3, 3, 1]
    assert same(mx.concatenate(blocks, axis=2), theirs)


def test_a_query_that_may_see_nothing_gets_something_finite() -> None:
    q, k, v = random(1, 4, 32, 16), random(1, 4, 200, 16, seed=1), random(1, 4, 200, 16, seed=2)
    nothing = mx.zeros((32, 200), dtype=mx.bool_)
    ours = vector_math.attention(q, k, v, scale=1.0, mask=nothing)
    assert mx.isfinite(ours).all()
    assert same(ours, vector_math.library_attention(q, k, v, scale=1.0, mask=nothing))


def test_more_queries_than_keys_are_the_librarys() -> None:
    q, k, v = random(1, 4, 90, 16), random(1, 4, 60, 16, seed=1), random(1, 4, 60, 16, seed=2)
    ours = vector_math.attention(q, k, v, scale=1.0, mask="causal")
    assert same(ours, vector_math.library_attention(q, k, v, scale=1.0, mask="causal"))
    with pytest.raises(ValueError, match="mask"):
        vector_math.attention(q, k, v, scale=1.0, mask="acausal")


@pytest.mark.parametrize("sinks", [None, random(4)], ids=["in part bfloat16", "with sinks"])
def test_attention_of_other_kinds_is_the_librarys(sinks: mx.array | None) -> None:
    q, k, v = (random(1, 4, 80, 16, seed=seed) for seed in range(3))
    q = q.astype(mx.bfloat16) if sinks is None else q
    ours = vector_math.attention(q, k, v, scale=0.25, mask="causal", sinks=sinks)
    theirs = vector_math.library_attention(q, k, v, scale=0.25, mask="causal", sinks=sinks)
    assert same(ours, theirs)


Function = Callable[..., mx.array]
ELEMENTWISE: dict[str, tuple[Function, Function]] = {
    "exp": (vector_math.library_exp, np.exp),
    "sigmoid": (vector_math.library_sigmoid, vector_math.sigmoid),
    "tanh": (vector_math.library_tanh, np.tanh),
}


@pytest.mark.parametrize(("library", "function"), ELEMENTWISE.values(), ids=ELEMENTWISE)
@pytest.mark.parametrize("size", [5, vector_math.LEAST])
def test_functions_are_those_of_the_library(library: Function, function: Any, size: int) -> None:
    numbers = mx.concatenate([3 * random(size), mx.array([0.0, -INF, INF, NAN, 1e30, -1e30])])
    kept = np.array(numbers)
    quick = vector_math.elementwise(library, function)
    assert same(quick(numbers), library(numbers))
    assert np.array_equal(np.array(numbers), kept, equal_nan=True)
    assert same(quick(numbers.astype(mx.float16)), library(numbers.astype(mx.float16)))
    assert quick(1.5).item() == library(1.5).item()
    assert same(quick(numbers, stream=mx.cpu), library(numbers))


@pytest.mark.parametrize("axis", [-1, 2, 1, None, (0, 2)])
def test_softmax_and_its_sums_are_those_of_the_library(axis: Any) -> None:
    numbers = random(10, 10, 200)
    assert same(vector_math.softmax(numbers, axis), vector_math.library_softmax(numbers, axis))
    for keep in (False, True):
        ours = vector_math.logsumexp(numbers, axis, keep)
        assert same(ours, vector_math.library_logsumexp(numbers, axis, keep))


def test_sums_of_nothing_are_those_of_the_library() -> None:
    numbers = mx.concatenate([random(100, 200), mx.full((1, 200), -INF)])
    assert same(vector_math.softmax(numbers, -1), vector_math.library_softmax(numbers, -1))
    assert same(vector_math.logsumexp(numbers, -1), vector_math.library_logsumexp(numbers, -1))


@pytest.mark.parametrize("transformed", [mx.compile, mx.vmap])
def test_what_is_traced_is_left_to_the_library(transformed: Callable[[Function], Function]) -> None:
    numbers = random(100, 200)
    mx.enable_compile()
    try:
        assert same(transformed(lambda a: vector_math.softmax(a, -1))(numbers), mx.softmax(numbers, axis=-1))
    finally:
        if platform.on_cpu():
            mx.disable_compile()


def test_a_cpu_on_which_mlx_is_slow_gets_the_quick_functions() -> None:
    vector_math.quicken()
    quick = mx.fast.scaled_dot_product_attention is vector_math.attention
    assert quick == (mx.softmax is vector_math.softmax) == vector_math.is_slow()


def test_what_a_prompt_does_not_need_is_not_computed() -> None:
    """After the last layer's keys and values nothing is: the library, which is lazy, has the rest."""
    cache = [KVCache(), KVCache()]
    k = random(1, 4, 80, 16)
    computed = []
    with for_its_states(cache):
        for layer in cache:
            keys, values = layer.update_and_fetch(k, k)
            computed.append(vector_math.read(keys) is not None)
            found = vector_math.attention(k, keys, values, scale=1.0, mask="causal")
            assert same(found, vector_math.library_attention(k, keys, values, scale=1.0, mask="causal"))
    assert computed == [True, False]
    assert vector_math.read(k) is not None
    assert copy.deepcopy(cache[1]).offset == 80
    assert "update_and_fetch" not in vars(cache[1])
