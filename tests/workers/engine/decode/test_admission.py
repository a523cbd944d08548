"""What runs together fits into memory; what does not, waits."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from support.engines import Player, alone, sequence

from mlx_server.schemas.internal.generation import NO_LIMIT
from mlx_server.workers.engine.decode.admission import HEADROOM, Admission, Footprint, footprint
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.length_buckets import ALL_TOGETHER
from mlx_server.workers.engine.kvcache.flatten import flat
from mlx_server.workers.engine.sequence import Sequence

pytestmark = pytest.mark.model


def _sequence(number: int, length: int, max_tokens: int = 10) -> Sequence:
    rng = random.Random(number)
    return sequence(number, [rng.randrange(4, 250) for _ in range(length)], max_tokens)


@pytest.mark.parametrize(
    ("running", "new", "admitted"),
    [
        pytest.param([], 5000, True, id="one-alone-always"),
        pytest.param([130], 130, True, id="two-that-fit"),
        pytest.param([130, 130], 130, False, id="one-too-many"),
        pytest.param([170], 195, False, id="each-takes-as-much-as-the-longest-beside-it"),
        pytest.param([195], 170, False, id="whichever-it-is"),
        pytest.param([10], 191, True, id="not-as-one-of-another-batch"),
        pytest.param([191], 10, True, id="whichever-that-is"),
    ],
)
def test_admits_by_the_longest_row_of_a_batch(running: list[int], new: int, admitted: bool) -> None:
    admission = Admission(Footprint(10.0, 100.0), 2 * (10 * 200 + 100))
    rows = [_sequence(n, length) for n, length in enumerate(running)]
    assert admission.admits(_sequence(99, new), rows) is admitted


def test_a_sequence_needs_room_for_what_it_will_say_soon() -> None:
    admission = Admission(Footprint(1.0, 0.0), 2 * (100 + HEADROOM))
    assert admission.admits(_sequence(1, 100, 10_000), [_sequence(2, 100, 10_000)])
    assert not admission.admits(_sequence(1, 101, 10_000), [_sequence(2, 100, 10_000)])
    assert admission.admits(_sequence(1, 100, NO_LIMIT), [_sequence(2, 100, NO_LIMIT)]), "room for all that it may say"


@pytest.mark.parametrize(
    ("size", "limit", "tokens"),
    [
        pytest.param(Footprint(10.0, 0.0, 100_000.0), 1e9, 5000, id="as-much-as-reading-the-weights"),
        pytest.param(Footprint(10.0, 0.0, 500.0), 1e9, 1024, id="not-next-to-nothing"),
        pytest.param(Footprint(10.0, 0.0, 50_000.0), 8000, 100, id="but-an-eighth-of-the-memory-at-most"),
        pytest.param(Footprint(0.0, 9.0, 50_000.0), 8000, ALL_TOGETHER, id="nothing-that-grows"),
    ],
)
def test_what_another_batch_costs(size: Footprint, limit: float, tokens: float) -> None:
    assert size.own_cost(limit) == tokens


@pytest.mark.parametrize("architecture", ["llama", "mamba", "gemma3_text"])
def test_footprint_is_what_caches_take(load_tiny: Callable[[str], Any], architecture: str) -> None:
    found = footprint(load_tiny(architecture))
    assert (found.per_token > 0) is (architecture != "mamba")
    assert (found.fixed > 0) is (architecture == "mamba")
    assert bool(found.windows) is (architecture == "gemma3_text")


@pytest.mark.parametrize("architecture", ["llama", "mamba", "gemma3_text"])
def test_footprint_tells_what_a_long_sequence_takes(load_tiny: Callable[[str], Any], architecture: str) -> None:
    model = load_tiny(architecture)
    cache = make_prompt_cache(model)
    for token in range(256):
        model(mx.array([[token % 250]]), cache=cache)
    assert footprint(model).bytes_of(256) == sum(layer.nbytes for layer in flat(cache))


def test_a_draft_model_beside_it_takes_its_own_part() -> None:
    both = Footprint(4.0, 8.0, 100.0, ((10, 2.0),)).beside(Footprint(1.0, 2.0, 50.0))
    assert both == Footprint(5.0, 10.0, 100.0, ((10, 2.0),))
    assert both.bytes_of(20) == 10 + 5 * 20 - 2 * 10


def test_what_does_not_fit_waits_and_what_grows_too_large_goes_on_later(llama: Any) -> None:
    """All answers are what they would be alone, and no more run than fit."""
    size = footprint(llama)
    limit = 3 * size.per_token * 420
    engine = BatchEngine(
        llama, set(), rows=8, joint_prefill=True, prefill_step_size=64, admission=Admission(size, limit)
    )
    player = Player(engine)
    sequences = [_sequence(n, 20 + 30 * n, 300 if n < 3 else 20) for n in range(6)]
    player.add(*sequences)
    most = 0
    while engine.busy:
        player.step()
        most = max(most, len(engine._running))
    assert 2 <= most <= 4
    assert all(player.outcomes[one.key] == alone(llama, one.prompt, one.max_tokens) for one in sequences)
