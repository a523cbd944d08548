"""What a worker holds stays below what it was granted."""

from __future__ import annotations

import random
from typing import Any

import psutil
import pytest
from support.engines import Player, alone, random_prompt, sequence
from support.tiny.models import WIDE, make_model

from mlx_server.workers.engine.decode.admission import Admission, footprint
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.runtime.memory_bound import MemoryBound, Relief, relief

MEGABYTE = 1 << 20
SLACK = 16 * MEGABYTE
"""What the process of the tests may take beside, and a first step that nobody has seen the like of."""


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
def wide(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model whose KV states take 32 KB a token."""
    from mlx_lm.utils import load_model

    return load_model(make_model(tmp_path_factory.mktemp("wide"), "llama", **WIDE))[0]


def bounded(model: Any, more: int) -> tuple[BatchEngine, MemoryBound]:
    """An engine that may hold so many bytes beside all that there is."""
    size, prefixes, bound = footprint(model), PrefixStore(1 << 40), MemoryBound()
    engine = BatchEngine(
        model,
        set(),
        rows=8,
        joint_prefill=True,
        prefill_step_size=512,
        prefixes=prefixes,
        admission=Admission(size, 1e15, bound),
    )
    platform.configure()
    bound.loaded(prefixes, 0)
    bound.limit_bytes = psutil.Process().memory_info().rss + more
    return engine, bound


@pytest.mark.model
def test_all_end_well_in_less_memory_than_they_would_take(wide: Any) -> None:
    """Eight prompts of 13 MB each: a few at a time, and what is kept of them goes for the next."""
    engine, bound = bounded(wide, 64 * MEGABYTE)
    assert bound.limit_bytes is not None
    rng = random.Random(3)
    sequences = [sequence(number, [rng.randrange(4, 250) for _ in range(400)], 8) for number in range(8)]
    player = Player(engine)
    player.add(*sequences)
    held: list[int] = []
    rows: set[int] = set()
    while engine.busy:
        player.step()
        held.append(psutil.Process().memory_info().rss)
        rows.add(len(engine._running))
    assert max(held) <= bound.limit_bytes + SLACK
    assert 2 <= max(rows) < 8
    assert [player.outcomes[one.key].end for one in sequences] == ["length"] * 8
    assert all(player.outcomes[one.key] == alone(wide, one.prompt, 8) for one in sequences[::4])


@pytest.mark.model
def test_what_could_not_even_run_alone_is_refused_and_the_next_one_runs(wide: Any) -> None:
    engine, bound = bounded(wide, 64 * MEGABYTE)
    player = Player(engine)
    rng = random.Random(4)
    player.add(sequence(1, [5] * 4000), sequence(2, random_prompt(rng, wide)))
    player.run()
    assert [player.outcomes[number, 0].end for number in (1, 2)] == ["broken", "length"]
    assert f"may hold {bound.limit_bytes:,} bytes, too few for a prompt of 4,000 tokens" in player.errors[1, 0]


@pytest.mark.model
def test_kept_prompts_go_at_once_where_less_is_granted(wide: Any) -> None:
    engine, bound = bounded(wide, 400 * MEGABYTE)
    player = Player(engine)
    player.add(sequence(1, [5] * 600, 2))
    player.run()
    before = psutil.Process().memory_info().rss
    bound.limit_bytes = before - 12 * MEGABYTE
    assert bound.make_room()
    assert psutil.Process().memory_info().rss <= bound.limit_bytes + SLACK
