"""What a worker holds stays below what it was granted."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from support.bounded import (
    MEGABYTE,
    Make,
    batch,
    bounded,
    eight_prompts,
    kept_prompts,
    scored,
    scoring,
    sequential,
)
from support.engines import Player, random_prompt, sequence
from support.tiny.models import WIDE, make_model

from mlx_server.workers.engine.decode.admission import CHECK_EVERY
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.runtime.memory_bound import Relief, relief
from mlx_server.workers.engine.sequence import Broken

SLACK = 32 * MEGABYTE
"""What the process of the tests may take beside, and a first step that nobody has seen the like of: 11 to 20 MB, by
machine. Without a bound the eight prompts take 239 MB beyond it."""


@pytest.mark.parametrize(
    ("left", "reusable", "prompts", "more", "found"),
    [
        pytest.param(40, 0, 0, 30, Relief(10, 0, True), id="there-is-room"),
        pytest.param(40, 20, 0, 30, Relief(30, 0, True), id="and-more-for-reuse"),
        pytest.param(10, 20, 0, 30, Relief(0, 0, True), id="nothing-more-for-reuse"),
        pytest.param(10, 20, 0, 20, Relief(10, 0, True), id="less-for-reuse"),
        pytest.param(10, 20, 30, 50, Relief(0, 20, True), id="some-prompts-go"),
        pytest.param(10, 20, 30, 60, Relief(0, 30, True), id="all-prompts-go"),
        pytest.param(10, 20, 30, 61, Relief(0, 30, False), id="even-that-is-too-little"),
        pytest.param(-10, 0, 0, 0, Relief(0, 0, False), id="more-than-granted"),
    ],
)
def test_what_goes_for_more(left: int, reusable: int, prompts: int, more: float, found: Relief) -> None:
    assert relief(left, reusable, prompts, more) == found


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose KV states take 32 KB a token."""
    return make_model(tmp_path_factory.mktemp("wide"), "llama", **WIDE)


@pytest.fixture(scope="module")
def wide(wide_folder: Path) -> Any:
    from mlx_lm.utils import load_model

    return load_model(wide_folder)[0]


@pytest.mark.model
def test_all_end_well_in_less_memory_than_they_would_take(wide_folder: Path) -> None:
    """Eight prompts of 13 MB each: a few at a time, and what is kept of them goes for the next."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        seen = fresh.submit(eight_prompts, wide_folder).result()
    assert seen.over <= SLACK
    assert 2 <= seen.rows < 8
    assert [outcome.end for outcome in seen.outcomes] == ["length"] * 8
    assert {number: seen.outcomes[number] for number in seen.alone} == seen.alone


@pytest.mark.model
@pytest.mark.parametrize("make", [batch, sequential, scoring])
def test_what_could_not_even_run_alone_is_refused_and_the_next_one_runs(wide: Any, make: Make[Engine]) -> None:
    engine, bound = bounded(wide, 64 * MEGABYTE, make)
    player = Player(engine)
    rng = random.Random(4)
    sequences = [sequence(1, [5] * 4000), sequence(2, random_prompt(rng, wide))]
    player.add(*(scored(one) if make is scoring else one for one in sequences))
    first = []
    while engine.busy:
        first += [item for item in player.step() if item.key == (1, 0)]
    assert [player.outcomes[number, 0].end for number in (1, 2)] == ["broken", "length"]
    assert f"may hold {bound.limit_bytes:,} bytes, too few for a prompt of 4,000 tokens" in player.errors[1, 0]
    assert first == [Broken((1, 0), player.errors[1, 0], "prompt")], "before anything is read"


@pytest.mark.model
def test_kept_prompts_go_at_once_where_less_is_granted(wide_folder: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        assert fresh.submit(kept_prompts, wide_folder, 3 * SLACK // 2).result() <= SLACK


@pytest.mark.model
@pytest.mark.parametrize("make", [batch, sequential, scoring])
def test_kept_prompts_go_while_something_runs(wide: Any, make: Make[Engine]) -> None:
    engine, bound = bounded(wide, 400 * MEGABYTE, make)
    player, kept = Player(engine), bound._kept
    assert kept is not None
    player.add(*(sequence(number, [5 + number] * 100, 2) for number in range(2)))
    player.run()
    player.add(scored(sequence(9, [9] * 600, 0)) if make is scoring else sequence(9, [9] * 10, 60))
    player.step()
    assert kept.nbytes > 0
    bound.limit_bytes, bound._base = 1, 0
    steps = 0
    while kept.nbytes and steps < CHECK_EVERY:
        player.step()
        steps += 1
    assert (kept.nbytes, engine.busy) == (0, True)
    player.run()
    assert not player.errors
    assert bound._step > 0, "what a step takes was seen"
