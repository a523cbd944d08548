"""KV states of few bits: mlx-lm's own, and in a batch what its caches of full width hold."""

from __future__ import annotations

import random
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.base import scaled_dot_product_attention
from mlx_lm.models.cache import KVCache, QuantizedKVCache

from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.kvcache.quantised import PackedKVCache, QuantisedKVCache, numbers

HEADS = 2


def _new(rows: int, tokens: int, size: int = 64) -> tuple[mx.array, mx.array]:
    shape = (rows, HEADS, tokens, size)
    return mx.random.normal(shape), mx.random.normal(shape)


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@pytest.mark.parametrize(("dtype", "off"), [(mx.float32, 0.0), (mx.bfloat16, 0.01)], ids=["float32", "bfloat16"])
def test_it_holds_what_mlx_lms_own_holds(bits: int, dtype: mx.Dtype, off: float) -> None:
    own, theirs = QuantisedKVCache(bits), QuantizedKVCache(64, bits)
    for tokens in (5, 1, 300, 1):
        keys, values = (one.astype(dtype) for one in _new(1, tokens))
        ours, packed = own.update_and_fetch(keys, values), theirs.update_and_fetch(keys, values)
        for one, other in zip(ours, packed, strict=True):
            expected = mx.dequantize(*other, group_size=64, bits=bits)
            assert mx.allclose(one, expected, rtol=off, atol=off)
    assert own.nbytes == theirs.nbytes
    assert own.size() == own.offset == theirs.offset


@pytest.mark.parametrize("size", [96, 128, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_heads_of_any_number_of_groups_are_unpacked_as_mlx_does(size: int, bits: int) -> None:
    group = 32 if size % 64 else 64
    keys, _ = _new(3, 7, size)
    packed: Any = mx.quantize(keys, group_size=group, bits=bits)
    expected = mx.dequantize(*packed, group_size=group, bits=bits)
    assert mx.array_equal(numbers(packed, bits, group), expected)


def test_heads_without_a_group_are_refused_by_their_size() -> None:
    with pytest.raises(ValueError, match="heads of 80 numbers can't be divided into groups of 64 or 32"):
        QuantisedKVCache().update_and_fetch(*_new(1, 1, 80))


@pytest.mark.parametrize(("seed", "bits"), [(0, 8), (1, 4), (2, 5)])
def test_rows_that_come_and_go_hold_what_each_holds_alone(seed: int, bits: int) -> None:
    """A batch is merged, read on, extended, filtered, cut and taken apart, beside a row's own cache for each."""
    rng = random.Random(seed)
    mx.random.seed(seed)

    def begin(count: int) -> list[QuantisedKVCache]:
        begun = []
        for _ in range(count):
            one = QuantisedKVCache(bits)
            one.update_and_fetch(*_new(1, rng.randint(1, 300)))
            begun.append(one)
        return begun

    rows = begin(3)
    [batch] = merged([[row] for row in rows])
    for _ in range(12):
        match rng.choice(["read", "join", "leave", "cut"]):
            case "join" if len(rows) < 6:
                new = begin(rng.randint(1, 2))
                rows += new
                batch.extend(merged([[row] for row in new])[0])
            case "leave" if len(rows) > 1:
                staying = sorted(rng.sample(range(len(rows)), len(rows) - 1))
                rows = [rows[number] for number in staying]
                batch.filter(staying)
            case "cut" if all(row.size() > 2 for row in rows):
                assert batch.trim(2) == 2
                for row in rows:
                    row.trim(2)
            case _:
                keys, values = _new(len(rows), 1)
                batch.update_and_fetch(keys, values)
                for number, row in enumerate(rows):
                    row.update_and_fetch(keys[number : number + 1], values[number : number + 1])
        assert batch.offset.tolist() == [row.offset for row in rows]
    for number, row in enumerate(rows):
        one = batch.extract(number)
        assert one.offset == row.offset
        for ours, alone in zip(one.keys_and_values(), row.keys_and_values(), strict=True):
            assert mx.array_equal(ours, alone)


@pytest.mark.parametrize("heads", [HEADS, 3 * HEADS], ids=["as-many-queries", "grouped-queries"])
@pytest.mark.parametrize("mask", ["bool", "added"])
@pytest.mark.parametrize("bits", [4, 8])
def test_mlx_lms_attention_reads_a_batch_packed_as_it_reads_it_unpacked(bits: int, mask: str, heads: int) -> None:
    outputs = []
    rows = [(_new(1, tokens), tokens) for tokens in (9, 4, 30)]
    queries, (keys, values) = mx.random.normal((3, heads, 2, 64)), _new(3, 2)
    for kind in (QuantisedKVCache, PackedKVCache):
        caches = []
        for new, _ in rows:
            one = kind(bits)
            one.update_and_fetch(*new)
            caches.append([one])
        [batch] = merged(caches)
        seen = batch.make_mask(2)
        if mask == "added":
            seen = mx.where(seen, 0.0, -mx.inf)
        read = batch.update_and_fetch(keys, values)
        outputs.append(scaled_dot_product_attention(queries + 0, *read, cache=batch, scale=0.125, mask=seen))
    assert mx.allclose(*outputs, atol=1e-5)


def test_a_state_makes_the_same_cache_again() -> None:
    cache = PackedKVCache(4)
    cache.update_and_fetch(*_new(1, 5))
    again = PackedKVCache.from_state(cache.state)
    assert (again.bits, again.group_size, again.offset) == (4, 64, 5)
    assert mx.array_equal(again.keys_and_values()[0][0], cache.keys_and_values()[0][0])


def test_eight_bits_take_little_more_than_a_quarter_of_float32() -> None:
    quantised, plain = QuantisedKVCache(8), KVCache()
    for one in (quantised, plain):
        one.update_and_fetch(*_new(1, 256))
    assert quantised.nbytes == plain.nbytes * (1 + 2 * 4 / 64) / 4
