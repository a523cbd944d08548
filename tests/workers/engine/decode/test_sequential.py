import random
from collections.abc import Callable
from typing import Any, cast

import pytest
from support.engines import GREEDY, SEEDED, Outcome, Player, alone, random_prompt, sequence

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.decode.sequential import SequentialEngine

pytestmark = pytest.mark.model


@pytest.fixture
def gemma2(load_tiny: Callable[[str], Any]) -> Any:
    """A model that a batch would break."""
    return load_tiny("gemma2")


def _engine(model: Any, stop_tokens: frozenset[int] = frozenset()) -> SequentialEngine:
    return SequentialEngine(model, set(stop_tokens), prefill_step_size=8)


def test_greedy_sequences_equal_mlx_lms_unbatched(gemma2: Any) -> None:
    rng = random.Random(1)
    sequences = [sequence(n, random_prompt(rng, gemma2), rng.randint(4, 20)) for n in range(8)]
    stop_tokens = frozenset(alone(gemma2, one.prompt, 3).tokens[-1] for one in sequences[:4])
    player = Player(_engine(gemma2, stop_tokens))
    player.add(*sequences)
    outcomes = player.run()
    for one in sequences:
        assert outcomes[one.key] == alone(gemma2, one.prompt, one.max_tokens, stop_tokens)
        assert one.emitted == outcomes[one.key].tokens
    assert {outcome.end for outcome in outcomes.values()} == {"stop", "length"}


def test_sequences_come_in_order_one_at_a_time(gemma2: Any) -> None:
    player = Player(_engine(gemma2))
    player.add(*(sequence(n, [5, 6, 7], 3) for n in (3, 1, 2)))
    order = []
    while player.engine.busy:
        order += [item.key[0] for item in player.step()]
    assert order == [3, 3, 3, 1, 1, 1, 2, 2, 2]


def test_a_long_prompt_is_prefilled_in_chunks(gemma2: Any) -> None:
    player = Player(_engine(gemma2))
    player.add(long := sequence(1, list(range(4, 30)), 1))
    steps, read = [], []
    while player.engine.busy:
        steps.append(len(player.step()))
        read.append(long.read)
    assert steps == [0, 0, 0, 0, 1]
    assert read == [8, 16, 24, 25, 25]


def test_a_seeded_sequence_says_the_same_after_a_replay(gemma2: Any) -> None:
    sampling = Sampling(temperature=0.9, seed=5, presence_penalty=0.5, repetition_penalty=1.1)
    player = Player(_engine(gemma2))
    player.add(sequence(1, [5, 6, 7], 20, sampling))
    expected = player.run()[1, 0].tokens
    for position in (1, 7, 19):
        resumed = sequence(2, [5, 6, 7], 20, sampling)
        resumed.emitted = expected[:position]
        player = Player(_engine(gemma2))
        player.add(resumed)
        assert player.run()[2, 0].tokens == expected[position:]


@pytest.mark.parametrize("steps", [0, 1, 2, 8], ids=["waiting", "prefilling", "still-prefilling", "decoding"])
def test_remove_drops_the_first_in_line_at_any_stage(gemma2: Any, steps: int) -> None:
    player = Player(_engine(gemma2))
    leaves, stays = sequence(1, list(range(4, 34)), 20), sequence(2, [5, 6, 7], 5)
    player.add(leaves, stays)
    for _ in range(steps):
        player.step()
    before = list(player.outcomes[leaves.key].tokens)
    player.engine.remove(leaves.key)
    player.engine.remove((99, 0))
    outcomes = player.run()
    assert outcomes[leaves.key] == Outcome(before, None)
    assert outcomes[stays.key] == alone(gemma2, stays.prompt, 5)


def test_remove_drops_one_that_waits(gemma2: Any) -> None:
    player = Player(_engine(gemma2))
    player.add(sequence(1, [5, 6, 7], 5), sequence(2, [5, 6, 7], 5))
    player.step()
    player.engine.remove((2, 0))
    outcomes = player.run()
    assert (outcomes[1, 0].end, outcomes[2, 0]) == ("length", Outcome())


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(sequence(1, [5, 6, 7], 5, Sampling(repetition_penalty=cast(float, "strong"))), id="processor"),
        pytest.param(sequence(1, [5, 6, 7], 5, Sampling(logit_bias={5: cast(float, "much")})), id="making-processors"),
    ],
)
def test_an_exception_breaks_only_its_sequence(gemma2: Any, bad: Any) -> None:
    player = Player(_engine(gemma2))
    good = sequence(2, [5, 6, 7], 5, GREEDY)
    player.add(bad, good)
    outcomes = player.run()
    assert outcomes[bad.key].end == "broken"
    assert outcomes[good.key] == alone(gemma2, good.prompt, 5)


def test_sampled_sequences_are_served(gemma2: Any) -> None:
    player = Player(_engine(gemma2))
    player.add(sequence(1, [5, 6, 7], 10, SEEDED), sequence(2, [5, 6, 7], 10, Sampling(temperature=1.0)))
    assert {outcome.end for outcome in player.run().values()} == {"length"}


def test_close_forgets_everything(gemma2: Any) -> None:
    engine = _engine(gemma2)
    player = Player(engine)
    player.add(sequence(1, [5], 5), sequence(2, [5], 5))
    player.step()
    engine.close()
    assert not engine.busy
