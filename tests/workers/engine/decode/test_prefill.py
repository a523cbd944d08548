"""Prompts beside rows that decode: who waits for whom."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import mlx.core as mx
import pytest
from support.engines import Player, alone, random_prompt, sequence

from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.prefill import ends_of_messages
from mlx_server.workers.engine.decode.prefill_budget import YIELDING_TOKENS
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sequence import Sequence, Token

pytestmark = pytest.mark.model


def _engine(model: Any, chunk: int = 32, **more: Any) -> BatchEngine:
    return BatchEngine(model, set(), rows=8, joint_prefill=True, prefill_step_size=chunk, **more)


def _long(model: Any, number: int, length: int = 400) -> Sequence:
    rng = random.Random(number)
    return sequence(number, [rng.randrange(4, model.args.vocab_size) for _ in range(length)], 6)


def test_rows_get_a_token_in_every_step_while_a_long_prompt_is_read(llama: Any) -> None:
    player = Player(_engine(llama))
    running = [sequence(n, random_prompt(random.Random(n), llama), 150) for n in range(3)]
    player.add(*running)
    while any(len(one.emitted) < 2 for one in running):
        player.step()
    player.add(long := _long(llama, 9))
    steps = 0
    while not long.emitted:
        keys = {item.key for item in player.step() if isinstance(item, Token)}
        assert keys >= {one.key for one in running}
        steps += 1
    assert steps >= 400 // 32
    outcomes = player.run()
    assert all(outcomes[one.key] == alone(llama, one.prompt, one.max_tokens) for one in [*running, long])


def test_a_prompt_that_makes_way_is_read_in_short_steps_where_nobody_runs(llama: Any) -> None:
    player = Player(_engine(llama, chunk=512))
    prompt = _long(llama, 9)
    prompt.yields = True
    player.add(prompt)
    read = []
    while not prompt.emitted:
        player.step()
        read.append(prompt.read)
    chunks = [after - before for before, after in pairwise([0, *read]) if after > before]
    assert chunks[0] == YIELDING_TOKENS
    assert len(chunks) > 1
    assert player.run()[prompt.key] == alone(llama, prompt.prompt, prompt.max_tokens)


@pytest.mark.parametrize("awaited", [False, True])
def test_rows_that_nobody_waits_for_let_prompts_be_read_first(llama: Any, awaited: bool) -> None:
    player = Player(_engine(llama))
    running, prompt = sequence(1, random_prompt(random.Random(1), llama), 400), _long(llama, 9)
    running.yields, prompt.yields = not awaited, True
    player.add(running)
    while len(running.emitted) < 20:
        player.step()
    player.add(prompt)
    while prompt.read < len(prompt.context) - 1:
        player.step()
    assert (len(running.emitted) > 20) == awaited
    outcomes = player.run()
    assert all(outcomes[one.key] == alone(llama, one.prompt, one.max_tokens) for one in (running, prompt))


def _sharing(model: Any, shared: int, tails: list[int]) -> list[Sequence]:
    beginning = _long(model, 7, shared).prompt
    return [
        sequence(number, [*beginning, *_long(model, 20 + number, tail).prompt], 6) for number, tail in enumerate(tails)
    ]


@pytest.mark.parametrize("running", [0, 1])
def test_beginning_that_prompts_share_is_read_once(llama: Any, running: int) -> None:
    watched = Watched(llama)
    player = Player(_engine(watched, prefixes=PrefixStore(1 << 28)))
    beside = [sequence(50 + n, random_prompt(random.Random(n), llama), 100) for n in range(running)]
    player.add(*beside)
    while any(not one.emitted for one in beside):
        player.step()
    watched.tokens = 0
    player.add(*(prompts := _sharing(llama, 200, [300, 20, 30, 40])))
    outcomes = player.run()
    assert all(outcomes[one.key] == alone(llama, one.prompt, one.max_tokens) for one in [*beside, *prompts])
    assert [one.cached_tokens for one in prompts] == [0, 200, 200, 200]
    assert watched.tokens < 2 * 200 + 300 + 20 + 30 + 40 + 4 * 6 + 2 * 100


def test_who_waits_for_a_shared_beginning_does_not_wait_for_the_rest_of_it(llama: Any) -> None:
    player = Player(_engine(llama, prefixes=PrefixStore(1 << 28)))
    player.add(*(prompts := _sharing(llama, 100, [2000, 10])))
    while not prompts[1].emitted:
        player.step()
    assert prompts[0].read < 300


@pytest.mark.parametrize("when", [0, 2, 5])
def test_who_waits_for_a_beginning_reads_it_where_the_other_leaves(llama: Any, when: int) -> None:
    player = Player(_engine(llama, prefixes=PrefixStore(1 << 28)))
    player.add(*(prompts := _sharing(llama, 200, [50, 10])))
    for _ in range(when):
        player.step()
    player.engine.remove(prompts[0].key)
    assert player.run()[prompts[1].key] == alone(llama, prompts[1].prompt, 6)


class Watched:
    """A model that remembers the last position that it was asked for, and how many tokens it has read."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.last = 0
        self.tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, inputs: mx.array, cache: Any) -> mx.array:
        self.last = max(self.last, int(mx.max(mx.array(cache[0].offset))) + inputs.shape[1])
        self.tokens += inputs.size
        result: mx.array = self._model(inputs, cache=cache)
        return result


@pytest.mark.parametrize(("context_length", "last"), [(95, 93), (None, 96)])
def test_padding_stands_at_no_position_that_the_model_has_not(
    llama: Any, context_length: int | None, last: int
) -> None:
    model = Watched(llama)
    player = Player(
        BatchEngine(model, set(), rows=8, joint_prefill=True, prefill_step_size=32, context_length=context_length)
    )
    begun, fresh = _long(llama, 1, 91), _long(llama, 2, 33)
    begun.max_tokens = fresh.max_tokens = 3
    player.add(begun)
    while begun.read < 64:
        player.step()
    player.add(fresh)
    outcomes = player.run()
    assert model.last == last
    assert all(outcomes[one.key] == alone(llama, one.prompt, one.max_tokens) for one in (begun, fresh))


def test_a_prompt_tells_how_much_of_it_has_been_read(llama: Any) -> None:
    player = Player(_engine(llama))
    player.add(long := _long(llama, 9))
    told = [long.read]
    while not long.emitted:
        player.step()
        told.append(long.read)
    assert told[0] == 0
    assert told == sorted(told)
    assert len(set(told)) > 2
    assert told[-1] == len(long.prompt) - 1


def test_a_short_prompt_is_not_behind_long_ones(llama: Any) -> None:
    player = Player(_engine(llama))
    player.add(*(longs := [_long(llama, n) for n in range(3)]))
    player.step()
    player.add(short := sequence(9, [5, 6, 7, 8], 6))
    while not short.emitted:
        player.step()
    assert not any(one.emitted for one in longs)
    outcomes = player.run()
    assert all(outcomes[one.key] == alone(llama, one.prompt, 6) for one in [*longs, short])


def test_a_long_prompt_advances_however_many_short_ones_come(llama: Any) -> None:
    player = Player(_engine(llama))
    player.add(long := _long(llama, 1, 200))
    for number in range(400):
        player.add(sequence(100 + number, random_prompt(random.Random(number), llama, 20), 1))
        player.step()
    assert long.emitted
    player.run()


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ([], []),
        ([*range(10, 40)], []),
        ([*range(10, 40), 2, 9, 9], [31]),
        ([10, 2, *range(10, 40), 2, 9, 2, 2, 9, 9, 2, 9, 9, 2, 9], [33, 36, 39, 42]),
        ([*range(10, 40), 2], []),
    ],
)
def test_ends_of_messages(tokens: list[int], ends: list[int]) -> None:
    """The first one that is worth it, and the last three; not the prompt's own end."""
    assert ends_of_messages(tokens, frozenset({2})) == ends


def test_many_short_prompts_do_not_wait_for_the_first_ones_answer(llama: Any) -> None:
    """Nothing has been measured when they come."""
    player = Player(_engine(llama))
    first, *others = [sequence(n, random_prompt(random.Random(n), llama, 30), 60) for n in range(8)]
    player.add(first)
    player.step()
    player.add(*others)
    while any(not one.emitted for one in others):
        player.step()
    assert len(first.emitted) < 20
