"""Chunks of prompts that are read along with rows: everybody says what they say alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import msgspec
import pytest
from mlx_lm.models.cache import make_prompt_cache
from support.engines import GREEDY, SEEDED, Outcome, Player, alone, check_all_say_what_they_say_alone, sequence
from support.guesses import Whims

from mlx_server.workers.engine.decode.batch import BatchEngine, MakeRows
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
from mlx_server.workers.engine.kvcache.holes import cut
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.passes.joined import Call, JoinedModel, suited
from mlx_server.workers.engine.propose.batch import ProposingBatch
from mlx_server.workers.engine.sequence import Key, Sequence

pytestmark = pytest.mark.model

SAMPLINGS = [GREEDY, msgspec.structs.replace(SEEDED, seed=5), GREEDY]


def _engine(model: Any, make_rows: MakeRows = DecodeBatch, *, joins: bool = True) -> BatchEngine:
    return BatchEngine(model, set(), rows=8, joint_prefill=True, prefill_step_size=32, make_rows=make_rows, joins=joins)


def _tokens(count: int, number: int) -> list[int]:
    return [random.Random(number).randrange(4, 300) for _ in range(count)]


class Counted:
    """A model that counts its calls, by the shape of what it is asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.shapes: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, ids: mx.array, cache: Any) -> mx.array:
        self.shapes.append(ids.shape)
        logits: mx.array = self._model(ids, cache=cache)
        return logits


def _long_beside_rows(engine: BatchEngine) -> dict[Key, Outcome]:
    player = Player(engine)
    running = [sequence(n, _tokens(5 + n, n), 60, sampling) for n, sampling in enumerate(SAMPLINGS)]
    for one in running:
        one.logprobs = 2
    player.add(*running)
    while any(len(one.emitted) < 3 for one in running):
        player.step()
    player.add(sequence(9, _tokens(150, 9), 6))
    return player.run()


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_long_prompt_and_rows_say_what_they_say_in_passes_of_their_own(
    load_tiny: Callable[[str], Any], architecture: str
) -> None:
    model = Counted(load_tiny(architecture))
    joined = _long_beside_rows(_engine(model))
    assert any(rows > 8 for rows, _ in model.shapes)
    assert joined == _long_beside_rows(_engine(load_tiny(architecture), joins=False))
    assert joined[9, 0] == alone(load_tiny(architecture), _tokens(150, 9), 6)


def test_rows_that_join_and_leave_equal_mlx_lms_unbatched(llama: Any) -> None:
    make_rows = partial(ProposingBatch, worth=Whims(1))

    def speculate(one: Sequence, _: list[int]) -> None:
        one.speculate = "auto"

    check_all_say_what_they_say_alone(_engine(llama, make_rows), llama, random.Random(3), 24, prepare=speculate)


@pytest.mark.parametrize("call", [20, 40])
def test_all_survive_a_joined_pass_that_raises(llama: Any, call: int) -> None:
    numbers = itertools.count()

    class Failing(Counted):
        def __call__(self, ids: mx.array, cache: Any) -> mx.array:
            logits = super().__call__(ids, cache)
            if ids.shape[0] > 8 and next(numbers) in (0, call):
                raise RuntimeError("this pass fails when it has been done")
            return logits

    assert _long_beside_rows(_engine(Failing(llama))) == _long_beside_rows(_engine(llama))


@pytest.mark.parametrize("surplus", [[0, 0], [2, 1]], ids=["closed", "with-holes"])
def test_joined_calls_have_the_logits_and_leave_the_states_of_single_ones(llama: Any, surplus: list[int]) -> None:
    def caches() -> tuple[list[Any], list[Any]]:
        prompt, rows = make_prompt_cache(llama), [make_prompt_cache(llama) for _ in surplus]
        for number, cache in enumerate([prompt, *rows]):
            llama(mx.array([_tokens(9 + number, number)]), cache=cache)
        return prompt, cut(merged(rows), surplus)

    chunk, wide = mx.array([_tokens(5, 7)]), mx.array([_tokens(3, 8), _tokens(3, 9)])
    (prompt, rows), (own_prompt, own_rows) = caches(), caches()
    model = JoinedModel(llama)
    model.along(Call(chunk, prompt))
    assert model.carries
    logits = model(wide, rows)
    assert not model.carries
    llama(chunk, cache=own_prompt)
    assert mx.allclose(logits, llama(wide, cache=own_rows), atol=1e-5)
    for one, own in zip(prompt, own_prompt, strict=True):
        assert mx.allclose(one.keys[:, :, :14], own.keys[:, :, :14], atol=1e-5)
    after = mx.array([[5], [6]])
    assert mx.allclose(model(after, rows), llama(after, cache=own_rows), atol=1e-5)


@pytest.mark.parametrize(("tokens", "beside", "fit"), [(50, 4, 44), (44, 4, 44), (12, 4, 12), (11, 4, 11), (40, 1, 31)])
def test_a_chunk_is_cut_for_the_kernels(tokens: int, beside: int, fit: int) -> None:
    assert suited(tokens, beside) == fit
