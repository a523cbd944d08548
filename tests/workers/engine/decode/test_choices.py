"""Several choices of one prompt: computed once, then each for itself."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.engines import GREEDY, SEEDED, Outcome, Player, sequence

from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.decode.prefill import Prefiller
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
from mlx_server.workers.engine.prompt.prompts import choice_of
from mlx_server.workers.engine.sequence import Key, Sequence

pytestmark = pytest.mark.model

PROMPT = [5 + i % 90 for i in range(50)]
SAMPLING = msgspec.structs.replace(SEEDED, seed=11)


def _engine(model: Any, read: list[int] | None = None, *, joint_prefill: bool = True, rows: int = 8) -> BatchEngine:
    """Notes how many tokens of each prompt its reader was left to read."""

    class NotingReader(Prefiller):
        def add(self, sequence: Sequence, cache: list[Any] | None) -> None:
            if read is not None:
                read.append(0 if cache else len(sequence.prompt) - 1)
            super().add(sequence, cache)

    return BatchEngine(
        model, set(), rows=rows, joint_prefill=joint_prefill, prefill_step_size=16, make_reader=NotingReader
    )


def _choices(n: int, prompt: list[int] | None = None, number: int = 1) -> list[Sequence]:
    first = sequence(number, prompt or PROMPT, 12, SAMPLING)
    first.prefix = SharedPrefix(n)
    return [first, *(choice_of(first, i) for i in range(1, n))]


def _alone(model: Any, one: Sequence) -> Outcome:
    player = Player(SequentialEngine(model, set(), prefill_step_size=16))
    player.add(sequence(9, one.prompt, one.max_tokens, one.sampling))
    return player.run()[(9, 0)]


@pytest.mark.parametrize(("architecture", "joint"), [("llama", True), ("llama", False), ("mamba", False)])
def test_choices_equal_what_each_would_be_alone(
    load_tiny: Callable[[str], Any], architecture: str, joint: bool
) -> None:
    model = load_tiny(architecture)
    choices = _choices(4)
    player = Player(_engine(model, joint_prefill=joint))
    player.add(*choices, sequence(2, [7, 8, 9], 20, GREEDY))
    outcomes = player.run()
    for one in choices:
        assert outcomes[one.key] == _alone(model, one)
    assert len({tuple(outcomes[one.key].tokens) for one in choices}) == 4


def test_the_prompt_is_prefilled_once(llama: Any) -> None:
    inserted: list[int] = []
    player = Player(_engine(llama, inserted))
    player.add(*_choices(8))
    player.run()
    assert inserted == [len(PROMPT) - 1] + [0] * 7


def test_a_prompt_of_one_token_has_nothing_to_share(llama: Any) -> None:
    player = Player(_engine(llama))
    player.add(*(choices := _choices(3, [5])))
    outcomes = player.run()
    assert [outcomes[one.key] for one in choices] == [_alone(llama, one) for one in choices]


def test_choices_that_come_later_start_from_the_same_fork(llama: Any) -> None:
    inserted: list[int] = []
    first, second, third = choices = _choices(3)
    player = Player(_engine(llama, inserted, rows=2))
    player.add(first, second)
    player.run()
    assert first.prefix is not None
    assert first.prefix.cache is not None
    player.add(third)
    player.run()
    assert first.prefix.cache is None, "nobody waits for it any more"
    assert inserted == [len(PROMPT) - 1, 0, 0]
    assert [player.outcomes[one.key] for one in choices] == [_alone(llama, one) for one in choices]


@pytest.mark.parametrize("steps", range(6))
def test_the_others_go_on_when_the_first_leaves_before_the_fork(llama: Any, steps: int) -> None:
    first, *rest = _choices(3)
    player = Player(_engine(llama))
    player.add(first, *rest)
    for _ in range(steps):
        player.step()
    player.engine.remove(first.key)
    player.run()
    assert [player.outcomes[one.key] for one in rest] == [_alone(llama, one) for one in rest]


@pytest.mark.parametrize("fails_at", [1, 3, 4, 5, 7, 12])
def test_choices_survive_a_step_that_raises(llama: Any, fails_at: int) -> None:
    calls = 0

    class FailingRows(DecodeBatch):
        def step(self) -> list[Drawn]:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise RuntimeError("the test says so")
            return super().step()

    choices = _choices(3)
    engine = BatchEngine(llama, set(), rows=8, joint_prefill=True, prefill_step_size=16, make_rows=FailingRows)
    player = Player(engine)
    player.add(*choices)
    outcomes: dict[Key, Outcome] = player.run()
    assert [outcomes[one.key] for one in choices] == [_alone(llama, one) for one in choices]


@pytest.mark.parametrize("fails", [False, True], ids=["it leaves", "a step fails"])
def test_the_last_choice_that_starts_again_waits_for_nobody(llama: Any, fails: bool) -> None:
    failures: list[str] = []

    class FailingRows(DecodeBatch):
        def step(self) -> list[Drawn]:
            if failures:
                raise RuntimeError(failures.pop())
            return super().step()

    engine = BatchEngine(llama, set(), rows=1, joint_prefill=True, prefill_step_size=16, make_rows=FailingRows)
    player = Player(engine)
    player.add(*(choices := _choices(2)))
    while choices[1].key not in engine._running:
        player.step()
    assert (player.outcomes[choices[0].key].end, choices[1].emitted) == ("length", [])
    if fails:
        failures.append("the test says so")
    else:
        engine.remove(choices[1].key)
        player.add(choices[1])
    outcomes = player.run()
    assert [outcomes[one.key] for one in choices] == [_alone(llama, one) for one in choices]


def test_an_interrupted_first_choice_starts_from_the_others_fork(llama: Any) -> None:
    read: list[int] = []
    first, second = choices = _choices(2)
    engine = _engine(llama, read)
    player = Player(engine)
    player.add(first, second)
    player.step()
    assert 0 < first.read < len(PROMPT) - 1
    engine.remove(first.key)
    player.add(first)
    while first.key not in engine._running:
        assert player.outcomes[second.key].end is None, "it waits for all of the other's answer"
        player.step()
    outcomes = player.run()
    assert read == [len(PROMPT) - 1, len(PROMPT) - 1, 0]
    assert first.prefix is not None
    assert (first.prefix.cache, first.prefix.leader) == (None, None)
    assert [outcomes[one.key] for one in choices] == [_alone(llama, one) for one in choices]
