"""Heads that draft from hidden states, in the batch: answers are what they are without them."""

from __future__ import annotations

import gc
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.engines import check_all_say_what_they_say_alone, random_prompt, sequence
from support.guesses import Whims, drafted, engine_of, play, reports
from support.tiny.draft_heads import KINDS, Kind, make_easy, make_head

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.fleet.memory_estimate import token_bytes
from mlx_server.schemas.internal.generation import Grammar, Sampling
from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.engine.decode.admission import footprint
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.propose.draft_head import load_head
from mlx_server.workers.engine.propose.heads import HeadDrafter
from mlx_server.workers.engine.propose.readings import best
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError

pytestmark = pytest.mark.model


@dataclass(frozen=True, slots=True)
class Pair:
    """A tiny model by itself, and another copy that a head drafts for."""

    folder: Path
    plain: Any
    model: Any
    head: Any
    head_folder: Path

    def drafter(self) -> Counting:
        return Counting(self.head, 8, PrefillBudget(None, 64))


class Counting(HeadDrafter):
    """Counts proposals, and those that were right: not what was guessed from what was said."""

    proposed = right = 0

    def learn(self, *, right: bool) -> None:
        self.proposed += 1
        self.right += right
        super().learn(right=right)


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair_of(tmp_path_factory.mktemp("easy"), request.param)


def pair_of(folder: Path, kind: Kind, architecture: str = "llama") -> Pair:
    from mlx_lm.utils import load_model

    make_easy(folder, architecture)
    plain, served = load_model(folder)[0], load_model(folder)[0]
    spec = Load(str(folder), "lm", 4, 512, str(folder))
    head, telling = load_head(spec, make_head(folder / kind, kind, folder), served, lambda _: None)
    return Pair(folder, plain, telling, head, folder / kind)


@pytest.mark.parametrize("own_cost", [30, 1e9], ids=["by-length", "together"])
def test_rows_that_join_and_leave_equal_mlx_lms_unbatched(pair: Pair, own_cost: float) -> None:
    rng = random.Random(own_cost)
    engine = engine_of(pair.model, drafter := pair.drafter(), Whims(1), own_cost=own_cost)
    check_all_say_what_they_say_alone(
        engine, pair.plain, rng, 30, prepare=lambda one, _: drafted(one, rng.choice([None, 1, 3, 0]))
    )
    # How often depends on the last digits of a random model's logits, which machines differ in.
    assert drafter.proposed > drafter.right > 0


def test_recurrent_layers_go_back_and_read_again(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, "mtp", "qwen3_next")
    engine = engine_of(pair.model, drafter := pair.drafter(), Whims(1), own_cost=30)
    prompts, answers = (10, 60), (1, 2, 20, 40)
    check_all_say_what_they_say_alone(
        engine,
        pair.plain,
        random.Random(4),
        16,
        prompts=prompts,
        answers=answers,
        prepare=lambda one, _: drafted(one, 3),
    )
    assert drafter.proposed > drafter.right > 20


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.9, seed=5),
        Sampling(temperature=1.0, seed=8, top_k=20, repetition_penalty=1.2, presence_penalty=0.5),
        Sampling(temperature=0.0, frequency_penalty=1.0, logit_bias={7: 2.0, 9: -9.0}),
    ],
    ids=["temperature", "penalties", "greedy"],
)
def test_a_seed_gives_the_same_answer_with_a_head_as_without(pair: Pair, sampling: Sampling) -> None:
    prompts = [random_prompt(random.Random(number), pair.plain) for number in range(6)]

    def asked() -> list[Sequence]:
        return [drafted(sequence(number, prompt, 24, sampling), 3) for number, prompt in enumerate(prompts)]

    drafter = pair.drafter()
    assert play(engine_of(pair.model, drafter), *asked()) == play(engine_of(pair.plain, None), *asked())
    assert drafter.proposed > 60


def test_a_grammar_holds_and_reports_are_those_of_single_steps(pair: Pair) -> None:
    from mlx_lm.utils import load_tokenizer

    vocabulary = Vocabulary(load_tokenizer(pair.folder), pair.plain.args.vocab_size)

    def asked() -> list[Sequence]:
        made = [drafted(sequence(n, [5, 6, 7, 8 + n], 24), 3) for n in range(4)]
        for one in made[::2]:
            one.grammar = vocabulary.compile(Grammar("regex", "[a-z]{3,9}( [a-z]{2,5})*", "grammar"))
        for number, one in enumerate(made):
            one.logprobs = number or None
        return made

    stop = frozenset({2})
    try:
        ours = reports(engine_of(pair.model, pair.drafter(), stop_tokens=stop), sequences := asked())
        theirs = reports(engine_of(pair.plain, None, stop_tokens=stop), asked())
    finally:
        vocabulary.close()
    assert all(one.drafted for one in sequences)
    assert [(one.token, one.finish) for one in ours] == [(one.token, one.finish) for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprob == (None if other.logprob is None else pytest.approx(other.logprob, abs=1e-4))
        assert [token for token, _ in one.top] == [token for token, _ in other.top]


def made_to_matter(folder: Path, kind: Kind) -> Pair:
    """A pair whose head has weights that make all of what it reads matter."""
    import mlx.core as mx
    from mlx.utils import tree_map

    pair = pair_of(folder, kind)
    drafter = pair.head._drafter
    mx.random.seed(3)
    drafter.update(tree_map(lambda array: array + 0.3 * mx.random.normal(array.shape), drafter.parameters()))
    drafter._fused_context_kv_weight = None
    return pair


def hidden_states(pair: Pair, tokens: list[int]) -> Any:
    """What the model tells of its states [1, T, D] at each token."""
    import mlx.core as mx

    cache = pair.model.make_cache()
    pair.model(mx.array([tokens]), cache=cache)
    return mx.concatenate(cache[-1].keys_and_values(), axis=-1)[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_proposals_are_mlx_vlms_own_however_a_row_was_read(tmp_path: Path, kind: Kind) -> None:
    """In one piece, in pieces, and after proposals that were not taken."""
    import mlx.core as mx

    pair = made_to_matter(tmp_path, kind)
    drafter, tokens, latest = pair.head._drafter, [*range(5, 45)], 45
    hidden, after, found = hidden_states(pair, tokens), [*tokens[1:], latest], []
    for ends in ([40], [17, 30, 40], [*range(1, 41)]):
        reading = pair.head.begin()
        for end in ends:
            [start] = reading.lengths
            reading.read([after[start:end]], hidden[:, start:end], None)
            proposed = reading.propose([after[end - 1]], 4, None).tolist()
        found.append(proposed)
    own = drafter.reset(pair.model)
    if kind == "dflash":
        theirs = drafter.draft_block(latest, hidden, own, 5, best)
    else:
        drafter.prefill_from_target_hidden(mx.array([tokens]), hidden, latest, best)
        theirs = drafter.draft_block(latest, hidden[:, -1:], own, 5, best)
    assert found == [theirs.tolist()] * 3


@pytest.mark.parametrize("kind", ["mtp", "eagle3"])
def test_rows_that_are_read_together_get_the_proposals_that_they_get_alone(tmp_path: Path, kind: Kind) -> None:
    """Of different lengths, each reading on by another number of places, while rows join and leave."""
    import mlx.core as mx

    pair, rng = made_to_matter(tmp_path, kind), random.Random(5)
    rows = [[rng.randrange(5, 200) for _ in range(90)] for _ in range(5)]
    hidden = [hidden_states(pair, row[:-1]) for row in rows]
    readings = {number: pair.head.begin() for number in range(len(rows))}
    alone = {number: pair.head.begin() for number in range(len(rows))}
    for members in ([0, 1, 2], [0, 1, 2], [1, 2, 3, 4], [4, 1], [3, 0, 1], [3, 0, 1], [2], [0, 1, 2, 3, 4]):
        first, *others = [readings[number] for number in members]
        together = first.together(others) if others else first
        for _ in range(3):
            spans = [(start, start + rng.randint(1, 3)) for start in together.lengths]
            tokens = [rows[number][start + 1 : stop + 1] for number, (start, stop) in zip(members, spans, strict=True)]
            states = [hidden[number][:, start:stop] for number, (start, stop) in zip(members, spans, strict=True)]
            longest, expected = max(map(len, tokens)), []
            for number, own, state in zip(members, tokens, states, strict=True):
                alone[number].read([own], state, None)
                expected += alone[number].propose(own[-1:], 4, None).tolist()
            padded = [mx.pad(state, [(0, 0), (0, longest - state.shape[1]), (0, 0)]) for state in states]
            together.read(tokens, mx.concatenate(padded), None)
            assert together.propose([own[-1] for own in tokens], 4, None).tolist() == expected
        readings |= zip(members, together.apart(), strict=True)
    assert sorted(readings[number].lengths for number in readings) == sorted(one.lengths for one in alone.values())


def test_memory_of_a_head_is_what_was_thought_before_the_load(pair: Pair) -> None:
    """Hidden states that it reads, and its own: by its files, by the arrays of one token, and as MLX allocates them."""
    import mlx.core as mx

    plain, with_head = footprint(pair.plain), footprint(pair.model).beside(pair.head.footprint)
    known = token_bytes(read_model(pair.folder), wide=True), token_bytes(read_model(pair.head_folder), wide=True)
    assert (plain.per_token, with_head.per_token) == (known[0], sum(known))

    def held(model: Any, drafter: HeadDrafter | None) -> int:
        engine, rows = engine_of(model, drafter), [drafted(sequence(n, [5 + n] * 120, 400), 3) for n in range(4)]
        gc.collect()  # what other tests left counts as active, too
        before = mx.get_active_memory()
        for one in rows:
            engine.add(one)
        while min(len(one.emitted) for one in rows) < 100:
            engine.step()
        taken = []
        for _ in range(20):  # in some steps there is a copy, too
            engine.step()
            taken.append(mx.get_active_memory() - before)
        return min(taken)

    more = held(pair.model, pair.drafter()) - held(pair.plain, None)
    least, most = (4 * (with_head.bytes_of(tokens) - plain.bytes_of(tokens)) for tokens in (220, 512))
    assert 0.9 * least < more < 2 * most  # of what rows leave one by one there may be a copy


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    from mlx_lm.utils import load_model
    from support.tiny.models import make_model

    for kind in KINDS:
        (tmp_path / kind).mkdir()
        head = make_head(tmp_path / kind / "head", kind, make_easy(tmp_path / kind))
        other = load_model(make_model(tmp_path / kind, "llama", hidden_size=96, num_hidden_layers=4))[0]
        spec = Load(str(tmp_path), "lm", 4, 512, str(tmp_path))
        with pytest.raises(ModelLoadError, match="can't draft for this model"):
            load_head(spec, head, other, lambda _: None)
