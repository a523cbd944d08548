"""Steps of several tokens: answers are what they are without guesses, whoever joins and leaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import mlx.core as mx
import pytest
from mlx_lm.models import gpt2
from mlx_lm.models.cache import make_prompt_cache
from support.engines import Player, alone, check_all_say_what_they_say_alone, random_prompt, sequence
from support.guesses import Whims

from mlx_server.workers.engine.decode.admission import Admission, Footprint
from mlx_server.workers.engine.decode.batch import BatchEngine, MakeRows
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
from mlx_server.workers.engine.kvcache.holes import is_cuttable
from mlx_server.workers.engine.propose.batch import ProposingBatch
from mlx_server.workers.engine.propose.lookup import Lookup
from mlx_server.workers.engine.propose.memory import Memory
from mlx_server.workers.engine.propose.worth import MOST, Worth
from mlx_server.workers.engine.sampling.sampling import Processors
from mlx_server.workers.engine.sequence import Sequence, Token


class Prophet(Lookup):
    """Guesses what mlx-lm says to a prompt alone, with mistakes."""

    said: ClassVar[dict[tuple[int, ...], list[int]]] = {}
    """By the prompt: it, and what follows it."""

    def __init__(self, tokens: list[int]) -> None:
        super().__init__([], [], tokens)
        self.source, self._random = 0, random.Random(len(tokens))
        self._whole = next((w for prompt, w in self.said.items() if tuple(tokens[: len(prompt)]) == prompt), tokens)

    def follow(self, token: int) -> None:
        self._tokens.append(token)

    def guess(self, most: int) -> list[int]:
        tokens = self._whole[len(self._tokens) : len(self._tokens) + most]
        return [token if self._random.random() < 0.8 else 5 for token in tokens]


class Prophecies(Memory):
    """Prophets for all sequences."""

    def lookup(self, sequence: Sequence) -> Lookup:
        return Prophet(sequence.context)


def engine_of(model: Any, worth: Worth, *, rows: int = 8, own_cost: float = 1e9) -> BatchEngine:
    admission = Admission(Footprint(1.0, 0.0), 1e9)
    admission.own_cost = own_cost
    return BatchEngine(
        model,
        set(),
        rows=rows,
        joint_prefill=True,
        prefill_step_size=64,
        admission=admission,
        make_rows=partial(ProposingBatch, worth=worth, memory=Prophecies()),
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("own_cost", [30, 1e9])
def test_rows_that_join_and_leave_equal_mlx_lms_unbatched(
    load_tiny: Callable[[str], Any], architecture: str, own_cost: float
) -> None:
    model, rng = load_tiny(architecture), random.Random(architecture)
    assert is_cuttable(make_prompt_cache(model))

    def prophesy(one: Sequence, says: list[int]) -> None:
        one.speculate = "auto"
        Prophet.said[tuple(one.prompt)] = one.prompt + says

    engine = engine_of(model, Whims(1), own_cost=own_cost)
    came = check_all_say_what_they_say_alone(engine, model, rng, 24, prepare=prophesy)
    assert sum(one.accepted for one in came) > 30


def test_an_answer_that_was_given_before_is_guessed_for_the_same_client_only(load_tiny: Callable[[str], Any]) -> None:
    model, rng = load_tiny("llama"), random.Random(3)
    make_rows = partial(ProposingBatch, memory=Memory())
    player = Player(BatchEngine(model, set(), rows=2, joint_prefill=True, prefill_step_size=64, make_rows=make_rows))
    prompt = random_prompt(rng, model, 20)
    accepted = []
    for number, (tenant, use_cache) in enumerate([("a", True), ("a", True), ("b", True), ("a", False)]):
        one = sequence(number, prompt, 40)
        one.speculate, one.tenant, one.use_cache = "ngram", tenant, use_cache
        player.add(one)
        player.run()
        accepted.append(one.accepted)
        assert one.emitted == player.outcomes[0, 0].tokens
    first, again, another, without = accepted
    assert again > first + 20
    assert (another, without) == (first, first)


def run(model: Any, make_rows: MakeRows, sequences: list[Sequence]) -> list[Token]:
    player = Player(BatchEngine(model, set(), rows=4, joint_prefill=True, prefill_step_size=64, make_rows=make_rows))
    player.add(*sequences)
    produced: list[Token] = []
    while player.engine.busy:
        produced += [item for item in player.step() if isinstance(item, Token)]
    return produced


def known(model: Any, count: int) -> list[Sequence]:
    """Sequences whose answers are prophesied, with reports on their tokens."""
    rng, made = random.Random(7), []
    for number in range(count):
        one = sequence(number, random_prompt(rng, model, 30), 40)
        one.logprobs, one.speculate = 2, "auto"
        Prophet.said[tuple(one.prompt)] = one.prompt + alone(model, one.prompt, 40).tokens
        made.append(one)
    return made


def test_reports_are_those_of_single_steps(load_tiny: Callable[[str], Any]) -> None:
    model = load_tiny("llama")
    guessing = partial(ProposingBatch, worth=Whims(2), memory=Prophecies())
    plain, guessed = (run(model, rows, known(model, 3)) for rows in (DecodeBatch, guessing))
    for key in {token.key for token in plain}:
        ours, theirs = ([token for token in side if token.key == key] for side in (guessed, plain))
        assert [(t.token, t.finish) for t in ours] == [(t.token, t.finish) for t in theirs]
        assert [t.logprob for t in ours] == pytest.approx([t.logprob for t in theirs], abs=1e-4)
        assert [[token for token, _ in t.top] for t in ours] == [[token for token, _ in t.top] for t in theirs]


def test_answers_survive_a_wide_step_that_fails(load_tiny: Callable[[str], Any]) -> None:
    model = load_tiny("llama")
    failures = [2, 5]

    class Failing:
        """The model, which fails in some wide steps after it has read."""

        def __init__(self) -> None:
            self.wide = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, tokens: Any, **more: Any) -> Any:
            logits = model(tokens, **more)
            self.wide += 1 < tokens.shape[1] <= 1 + MOST and tokens.shape[0] > 1
            if failures and self.wide == failures[0]:
                failures.pop(0)
                raise ValueError("a wide step fails")
            return logits

    sequences = known(model, 3)
    run(Failing(), partial(ProposingBatch, worth=Whims(4), memory=Prophecies()), sequences)
    assert not failures
    assert [one.emitted for one in sequences] == [alone(model, one.prompt, 40).tokens for one in sequences]


@pytest.mark.parametrize("right", [1, 6])
def test_no_guess_is_beyond_the_vocabulary(load_tiny: Callable[[str], Any], right: int) -> None:
    """A client's prediction may have tokens that the tokenizer knows and the model does not."""
    model, prompt = load_tiny("llama"), [5, 6, 7, 8]
    size, says = model.args.vocab_size, alone(model, prompt, 30)

    class Checked:
        """The model, which does not look such tokens up."""

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, tokens: Any, **more: Any) -> Any:
            assert tokens.max().item() < size
            return model(tokens, **more)

    one = sequence(1, prompt, 30)
    one.speculate, one.predicted = "ngram", [*says.tokens[:right], size, size + 9, *says.tokens[right:]]
    produced = run(Checked(), partial(ProposingBatch, vocab_size=size), [one])
    assert ([token.token for token in produced], one.emitted) == (says.tokens, says.tokens)
    assert one.accepted >= right - 1


def test_what_a_grammar_forces_is_guessed_as_far_as_the_model_knows_it(load_tiny: Callable[[str], Any]) -> None:
    model = load_tiny("llama")
    batch = ProposingBatch(model, set(), vocab_size=model.args.vocab_size)

    class Forcing(Processors):
        def forced(self, token: int) -> list[int]:
            return [5, 6, model.args.vocab_size, 7]

    one = sequence(1, [5, 6, 7, 8], 30)
    one.speculate = "auto"
    batch.join([one], make_prompt_cache(model), {one.key: Forcing([])})
    assert batch._guess(batch._rows[one.key], 4).tokens == [5, 6]


def test_no_guess_of_another_row_is_padding_beyond_the_context() -> None:
    """GPT-2 has learned positions, and here none from 64 on."""
    mx.random.seed(3)
    model = gpt2.Model(gpt2.ModelArgs("gpt2", 64, 32, 2, 2, 64, 1e-5, vocab_size=300))

    class Checked:
        """The model, which is not asked for a position that it does not have."""

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, tokens: Any, cache: Any) -> Any:
            assert mx.array(cache[0].offset).max().item() + tokens.shape[1] <= 64
            return model(tokens, cache=cache)

    sequences = [sequence(1, list(range(10, 42)), 32), sequence(2, [7, 8, 9], 60)]
    said = [alone(model, one.prompt, one.max_tokens).tokens for one in sequences]
    for one, says in zip(sequences, said, strict=True):
        one.speculate = "auto"
        Prophet.said[tuple(one.prompt)] = one.prompt + says
    make_rows = partial(ProposingBatch, worth=Whims(6), memory=Prophecies(), context_length=64)
    run(Checked(), make_rows, sequences)
    assert [one.emitted for one in sequences] == said
    assert all(one.accepted > 5 for one in sequences)
