"""Rows of very different length decode in batches of their own, and say the same as ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engines import Player, check_all_say_what_they_say_alone, random_prompt, sequence

from mlx_server.workers.engine.decode.admission import Admission, Footprint
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.length_buckets import ALL_TOGETHER, padded, partition
from mlx_server.workers.engine.sequence import Key

pytestmark = pytest.mark.model


def _cost(lengths: list[int], sizes: list[int], own_cost: float) -> float:
    ordered, cost = sorted(lengths), 0.0
    for size in sizes:
        cost += own_cost + size * ordered[size - 1]
        ordered = ordered[size:]
    return cost


def _all_partitions(count: int) -> list[list[int]]:
    if not count:
        return [[]]
    return [[first, *rest] for first in range(1, count + 1) for rest in _all_partitions(count - first)]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=7), st.integers(0, 400))
def test_no_partition_costs_less(lengths: list[int], own_cost: int) -> None:
    best = min(_cost(lengths, sizes, own_cost) for sizes in _all_partitions(len(lengths)))
    assert _cost(lengths, partition(lengths, own_cost), own_cost) == best


@pytest.mark.parametrize(
    ("lengths", "own_cost", "sizes", "tokens"),
    [
        ([], 10, [], 0),
        ([7], 10, [1], 7),
        ([50, 60, 40], 1000, [3], 180),
        ([50, 8000, 60], 1000, [2, 1], 8120),
        ([50, 8000, 60], ALL_TOGETHER, [3], 24000),
        ([10, 10, 900, 1000, 9000], 300, [2, 2, 1], 11020),
    ],
)
def test_partition(lengths: list[int], own_cost: float, sizes: list[int], tokens: int) -> None:
    assert (partition(lengths, own_cost), padded(lengths, own_cost)) == (sizes, tokens)


def _engine(model: Any, own_cost: float, *, joint: bool = True) -> BatchEngine:
    admission = Admission(Footprint(1.0, 0.0), 1e9)
    admission.own_cost = own_cost
    return BatchEngine(model, set(), rows=8, joint_prefill=joint, prefill_step_size=64, admission=admission)


@pytest.mark.parametrize(
    ("architecture", "joint", "seed"),
    [("llama", True, 0), ("llama", True, 1), ("gemma3_text", True, 2), ("mamba", False, 3), ("qwen3_next", True, 4)],
)
def test_rows_that_change_their_batch_equal_mlx_lms_unbatched(
    load_tiny: Callable[[str], Any], architecture: str, joint: bool, seed: int
) -> None:
    model, rng = load_tiny(architecture), random.Random(seed)
    engine = _engine(model, rng.choice([30, 90]), joint=joint)
    groups: list[int] = []
    check_all_say_what_they_say_alone(
        engine,
        model,
        rng,
        24,
        prompts=(10, 40, 300),
        answers=(3, 20, 120),
        leaves=0.03,
        stepped=lambda: groups.append(len(engine.groups)),
    )
    assert max(groups) > 1


def test_short_rows_take_no_memory_for_a_long_one(llama: Any) -> None:
    """Grouped when the long one joins, together again when it has left."""

    def run(own_cost: float) -> list[list[list[Key]]]:
        player = Player(engine := _engine(llama, own_cost))
        shorts = [sequence(n, random_prompt(random.Random(n), llama, 20), 200) for n in range(4)]
        player.add(*shorts)
        while any(not one.emitted for one in shorts):
            player.step()
        player.add(long := sequence(9, [5 + n % 200 for n in range(450)], 5))
        while not long.emitted:
            player.step()
        seen = [engine.groups]
        while len(engine.groups) == 2:
            player.step()
        return [*seen, engine.groups]

    during, after = run(100)
    assert sorted(map(len, during)) == [1, 4]
    assert list(map(len, after)) == [4]
    assert list(map(len, run(ALL_TOGETHER)[0])) == [5]
