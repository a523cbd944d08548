import itertools
import random
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from support.engines import GREEDY, SEEDED, Outcome, Player, alone, random_prompt, sequence

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.decode.prefill import Prefiller, Read
from mlx_server.workers.engine.sequence import Broken, Key, Sequence, Token

pytestmark = pytest.mark.model

POISON = [11, 12, 13, 11]


def _engine(
    model: Any,
    *,
    stop_tokens: frozenset[int] = frozenset(),
    rows: int = 8,
    joint_prefill: bool = True,
    prefill_step_size: int = 16,
    make_rows: Callable[[Any], DecodeBatch] = DecodeBatch,
    make_reader: Callable[..., Prefiller] = Prefiller,
) -> BatchEngine:
    return BatchEngine(
        model,
        set(stop_tokens),
        rows=rows,
        joint_prefill=joint_prefill,
        prefill_step_size=prefill_step_size,
        make_rows=make_rows,
        make_reader=make_reader,
    )


def _seeded(seed: int) -> Sampling:
    return msgspec.structs.replace(SEEDED, seed=seed)


def _mixed(model: Any, count: int = 5) -> list[Sequence]:
    """Greedy and seeded sequences with prompts of different length."""
    rng = random.Random(count)
    return [sequence(n, random_prompt(rng, model), 12 + n, GREEDY if n % 3 == 0 else _seeded(n)) for n in range(count)]


def _by_itself(model: Any, one: Sequence) -> Outcome:
    """In an engine of its own."""
    player = Player(_engine(model))
    player.add(one)
    return player.run()[one.key]


@pytest.fixture(scope="module")
def undisturbed(llama: Any) -> dict[Key, Outcome]:
    """What the mixed sequences say, each by itself."""
    return {one.key: _by_itself(llama, one) for one in _mixed(llama)}


@pytest.mark.parametrize("joint_prefill", [True, False], ids=["joint", "single"])
@pytest.mark.parametrize("seed", range(2))
def test_greedy_sequences_that_join_and_leave_equal_mlx_lms_unbatched(
    llama: Any, seed: int, joint_prefill: bool
) -> None:
    rng = random.Random(seed)
    frequent = alone(llama, random_prompt(rng, llama), 40).tokens
    stop_tokens = frozenset(rng.sample(frequent, 8))
    player = Player(_engine(llama, stop_tokens=stop_tokens, joint_prefill=joint_prefill))
    sequences: dict[Key, Sequence] = {}
    left: set[Key] = set()
    while len(sequences) < 16 or player.engine.busy:
        running = [key for key, outcome in player.outcomes.items() if outcome.end is None and key not in left]
        if len(sequences) < 16 and len(running) < 8 and rng.random() < 0.5:
            joining = sequence(len(sequences), random_prompt(rng, llama), rng.randint(1, 24))
            sequences[joining.key] = joining
            player.add(joining)
        if running and rng.random() < 0.05:
            leaving = rng.choice(running)
            left.add(leaving)
            player.engine.remove(leaving)
        if player.engine.busy:
            player.step()
    ends = set()
    for key, joined in sequences.items():
        expected = alone(llama, joined.prompt, joined.max_tokens, stop_tokens)
        outcome = player.outcomes[key]
        if key in left:
            assert outcome.tokens == expected.tokens[: len(outcome.tokens)]
        else:
            assert outcome == expected
            ends.add(outcome.end)
        assert joined.emitted == outcome.tokens
    assert ends == {"stop", "length"}


def test_a_seeded_sequence_says_the_same_beside_any_neighbours(llama: Any) -> None:
    rng = random.Random(5)
    prompt = random_prompt(rng, llama)
    expected = _by_itself(llama, sequence(0, prompt, 24, _seeded(99)))
    neighbours = [Sampling(temperature=1.0), Sampling(temperature=0.7, top_p=0.9), GREEDY, _seeded(1), SEEDED]
    for round_ in range(3):
        player = Player(_engine(llama))
        for number, sampling in enumerate(rng.sample(neighbours, 4), start=1):
            player.add(sequence(number, random_prompt(rng, llama), rng.randint(3, 30), sampling))
            if rng.random() < 0.5:
                player.step()
        player.add(sequence(0, prompt, 24, _seeded(99)))
        assert player.run()[0, 0] == expected, round_


def test_seeds_make_different_texts(llama: Any) -> None:
    prompt = random_prompt(random.Random(5), llama)
    player = Player(_engine(llama))
    player.add(*(sequence(seed, prompt, 24, _seeded(seed)) for seed in range(6)))
    assert len({tuple(outcome.tokens) for outcome in player.run().values()}) == 6


def test_more_sequences_than_rows_are_all_served(llama: Any) -> None:
    rng = random.Random(1)
    sequences = [sequence(n, random_prompt(rng, llama), 10) for n in range(9)]
    player = Player(_engine(llama, rows=2))
    player.add(*sequences)
    outcomes = player.run()
    assert all(outcomes[s.key] == alone(llama, s.prompt, 10) for s in sequences)


def _two(llama: Any, prompt_tokens: int = 60) -> tuple[Player, Sequence, Sequence]:
    rng = random.Random(3)
    stays = sequence(1, random_prompt(rng, llama, 5), 20)
    leaves = sequence(2, (random_prompt(rng, llama) * 60)[:prompt_tokens], 20)
    player = Player(_engine(llama, prefill_step_size=8))
    player.add(stays)
    return player, stays, leaves


@pytest.mark.parametrize("stage", ["waiting", "prefilling", "decoding"])
def test_remove_drops_a_sequence_at_any_stage_and_no_other(llama: Any, stage: str) -> None:
    player, stays, leaves = _two(llama)
    player.step()
    player.add(leaves)
    match stage:
        case "prefilling":
            player.step()
            player.step()
            assert player.outcomes[leaves.key].tokens == []
        case "decoding":
            while len(player.outcomes[leaves.key].tokens) < 3:
                player.step()
    before = list(player.outcomes[leaves.key].tokens)
    player.engine.remove(leaves.key)
    outcomes = player.run()
    assert outcomes[leaves.key] == Outcome(before, None)
    assert outcomes[stays.key] == alone(llama, stays.prompt, 20)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_remove_of_the_only_sequence_leaves_the_engine_idle_and_usable(llama: Any, steps: int) -> None:
    player, stays, other = _two(llama)
    for _ in range(steps):
        player.step()
    player.engine.remove(stays.key)
    assert not player.engine.busy
    player.add(other)
    assert player.run()[other.key] == alone(llama, other.prompt, 20)


def test_rows_that_are_removed_leave_together(llama: Any) -> None:
    """Each by itself would have those that stay copied; and one that comes back meanwhile is still to be answered."""
    player, stays, other = _two(llama, 5)
    third = sequence(3, other.prompt, 20)
    player.add(other, third)
    while not all(player.outcomes[one.key].tokens for one in (stays, other, third)):
        player.step()
    player.engine.remove(other.key)
    player.engine.remove(third.key)
    assert {key for group in player.engine.groups for key in group} == {stays.key, other.key, third.key}
    player.engine.add(third)
    player.step()
    assert other.key not in {key for group in player.engine.groups for key in group}
    outcomes = player.run()
    assert outcomes[stays.key] == alone(llama, stays.prompt, 20)
    assert outcomes[third.key] == alone(llama, third.prompt, 20)


def test_remove_ignores_unknown_and_ended_sequences(llama: Any) -> None:
    player, stays, _ = _two(llama)
    player.engine.remove((99, 0))
    player.run()
    player.engine.remove(stays.key)
    assert not player.engine.busy


def test_close_forgets_everything(llama: Any) -> None:
    player, _, other = _two(llama)
    player.step()
    player.add(other)
    cast(BatchEngine, player.engine).close()
    assert not player.engine.busy


def _failing_at(calls: set[int], *, half_stepped: bool) -> type[DecodeBatch]:
    """Rows that raise in their k-th step, counted over all that are made of it."""
    numbers = itertools.count(1)

    class Failing(DecodeBatch):
        def step(self) -> list[Drawn]:
            fails = next(numbers) in calls
            if fails and not half_stepped:
                raise RuntimeError("this step fails")
            drawn = super().step()
            if fails:
                raise RuntimeError("this step fails when it has been done")
            return drawn

    return Failing


@pytest.mark.parametrize("half_stepped", [False, True], ids=["before", "half-stepped"])
@pytest.mark.parametrize("calls", [{1}, {2}, {4}, {7}, {12}, {4, 5}, {3, 12, 21}], ids=str)
def test_sequences_survive_a_step_that_raises_unchanged(
    llama: Any, undisturbed: dict[Key, Outcome], calls: set[int], half_stepped: bool
) -> None:
    player = Player(_engine(llama, make_rows=_failing_at(calls, half_stepped=half_stepped)))
    player.add(*_mixed(llama))
    assert player.run() == undisturbed


@pytest.mark.parametrize("half_stepped", [False, True], ids=["before", "half-stepped"])
def test_sequences_that_join_after_a_failure_are_unchanged_too(
    llama: Any, undisturbed: dict[Key, Outcome], half_stepped: bool
) -> None:
    for joining in (2, 4, 7):
        player = Player(_engine(llama, make_rows=_failing_at({3, 4}, half_stepped=half_stepped)))
        early, late = _mixed(llama)[:3], _mixed(llama)[3:]
        player.add(*early)
        for _ in range(joining):
            player.step()
        player.add(*late)
        assert player.run() == undisturbed


def _poisonous_rows(*, half_stepped: bool) -> type[DecodeBatch]:
    """Rows that raise whenever one is among them whose sequence begins with POISON."""

    class Poisoned(DecodeBatch):
        def step(self) -> list[Drawn]:
            fails = any(row.sequence.prompt[: len(POISON)] == POISON for row in self._rows.values())
            if fails and not half_stepped:
                raise ValueError("poison")
            drawn = super().step()
            if fails:
                raise ValueError("poison")
            return drawn

    return Poisoned


class PoisonedReader(Prefiller):
    """Raises whenever it is at a prompt that begins with POISON."""

    def _advance(self, chosen: list[Any], tokens: int) -> list[Read | Broken]:
        if any(one.tokens[: len(POISON) - 1] == POISON[:-1] for one in chosen):
            raise ValueError("poison")
        return super()._advance(chosen, tokens)


class LatePoisonedReader(Prefiller):
    """Raises once it has read such a prompt."""

    def _advance(self, chosen: list[Any], tokens: int) -> list[Read | Broken]:
        poisonous = any(one.tokens[: len(POISON) - 1] == POISON[:-1] for one in chosen)
        read = super()._advance(chosen, tokens)
        if poisonous:
            raise ValueError("poison")
        return read


class PoisonedTurns(Prefiller):
    """Raises outside of what it does for one prompt."""

    def step(self, *, running: int, since: float) -> list[Read | Broken]:
        if any(one.tokens[: len(POISON) - 1] == POISON[:-1] for one in self.readings.values()):
            raise ValueError("poison")
        return super().step(running=running, since=since)


POISONS: dict[str, dict[str, Any]] = {
    "reading": {"make_reader": PoisonedReader},
    "having-read": {"make_reader": LatePoisonedReader},
    "taking-turns": {"make_reader": PoisonedTurns},
    "decoding": {"make_rows": _poisonous_rows(half_stepped=False)},
    "half-stepped": {"make_rows": _poisonous_rows(half_stepped=True)},
}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("joins_after", [0, 3, 8])
def test_a_poisonous_sequence_breaks_alone(
    llama: Any, undisturbed: dict[Key, Outcome], poison: str, joins_after: int
) -> None:
    player = Player(_engine(llama, **POISONS[poison]))
    player.add(*_mixed(llama))
    for _ in range(joins_after):
        player.step()
    bad = sequence(66, [*POISON, 20, 21], 10)
    player.add(bad)
    outcomes = player.run()
    assert outcomes.pop(bad.key).end == "broken"
    assert player.errors == {bad.key: "ValueError: poison"}
    assert outcomes == undisturbed


def test_several_poisonous_sequences_break_and_the_others_do_not(llama: Any, undisturbed: dict[Key, Outcome]) -> None:
    player = Player(_engine(llama, make_rows=_poisonous_rows(half_stepped=False)))
    bad = [sequence(60 + n, [*POISON, 20 + n], 10) for n in range(3)]
    for good, poisonous in itertools.zip_longest(_mixed(llama), bad):
        player.add(good, *([poisonous] if poisonous else []))
    outcomes = player.run()
    assert {outcomes.pop(one.key).end for one in bad} == {"broken"}
    assert outcomes == undisturbed


def test_a_lone_poisonous_sequence_breaks(llama: Any) -> None:
    player = Player(_engine(llama, make_rows=_poisonous_rows(half_stepped=False)))
    player.add(sequence(66, POISON, 10))
    assert player.run(steps=20)[66, 0].end == "broken"


@pytest.mark.parametrize("leaves_after", [1, 2, 4])
def test_a_poisonous_sequence_may_leave_while_it_is_looked_for(
    llama: Any, undisturbed: dict[Key, Outcome], leaves_after: int
) -> None:
    player = Player(_engine(llama, make_rows=_poisonous_rows(half_stepped=False)))
    bad = sequence(66, POISON, 10)
    player.add(*_mixed(llama), bad)
    for _ in range(leaves_after):
        player.step()
    player.engine.remove(bad.key)
    outcomes = player.run()
    del outcomes[bad.key]
    assert outcomes == undisturbed


def test_new_sequences_join_again_once_the_poison_was_found(llama: Any) -> None:
    player = Player(_engine(llama, make_rows=_poisonous_rows(half_stepped=False)))
    player.add(sequence(66, POISON, 10), *_mixed(llama))
    while not player.errors:
        player.step()
    late = sequence(70, [5, 6, 7], 30)
    player.add(late)
    together = 0
    while player.engine.busy:
        keys = {item.key for item in player.step()}
        together = max(together, len(keys))
    assert together == 6
    assert player.outcomes[late.key] == alone(llama, late.prompt, 30)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Sampling(repetition_penalty=cast(float, "strong")), id="in-a-processor"),
        pytest.param(Sampling(logit_bias={5: cast(float, "much")}), id="when-inserted"),
    ],
)
@pytest.mark.parametrize("joins_after", [0, 5])
def test_an_exception_of_its_own_breaks_only_that_sequence(
    llama: Any, undisturbed: dict[Key, Outcome], bad: Sampling, joins_after: int
) -> None:
    player = Player(_engine(llama))
    player.add(*_mixed(llama))
    for _ in range(joins_after):
        player.step()
    broken = sequence(66, [5, 6, 7], 10, bad)
    player.add(broken)
    outcomes = player.run()
    assert outcomes.pop(broken.key).end == "broken"
    assert list(player.errors) == [broken.key]
    assert outcomes == undisturbed


def test_an_empty_prompt_breaks_only_its_sequence(llama: Any, undisturbed: dict[Key, Outcome]) -> None:
    player = Player(_engine(llama))
    player.add(*_mixed(llama), sequence(66, [], 10))
    outcomes = player.run()
    assert outcomes.pop((66, 0)) == Outcome([], "broken")
    assert outcomes == undisturbed


def test_step_reports_each_token_once_and_the_end_with_the_last(llama: Any) -> None:
    player = Player(_engine(llama))
    player.add(sequence(1, [5, 6], 3))
    produced = []
    while player.engine.busy:
        produced += player.step()
    assert not any(isinstance(item, Broken) for item in produced)
    assert [cast(Token, item).finish for item in produced] == [None, None, "length"]
