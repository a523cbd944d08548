"""A draft model in the batch: answers are what they are without it, whoever joins and leaves."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from support.engines import GREEDY, Player, alone, check_all_say_what_they_say_alone, random_prompt, sequence
from support.guesses import Whims, drafted, drafter_of, engine_of, play, reports

from mlx_server.schemas.internal.generation import Grammar, Limits, Sampling
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.kvcache.whole_windows import keep_windows_whole
from mlx_server.workers.engine.propose.worth import Worth
from mlx_server.workers.engine.sequence import Sequence

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def perturbed(tiny_model: Callable[[str], Path]) -> Any:
    """The tiny llama with noise on its weights: a draft that is often right."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.utils import load_model

    model = load_model(tiny_model("llama"))[0]
    mx.random.seed(7)
    model.update(tree_map(lambda array: array + 0.012 * mx.random.normal(array.shape), model.parameters()))
    return model


@pytest.mark.parametrize("own_cost", [30, 1e9], ids=["by-length", "together"])
def test_rows_that_join_and_leave_equal_mlx_lms_unbatched(llama: Any, perturbed: Any, own_cost: float) -> None:
    rng = random.Random(own_cost)
    drafter = drafter_of(perturbed, llama, prefixes=PrefixStore(64 << 20))
    engine = engine_of(llama, drafter, Whims(1), own_cost=own_cost)
    came = check_all_say_what_they_say_alone(
        engine, llama, rng, 40, prepare=lambda one, _: drafted(one, rng.choice([None, 1, 3, 0]))
    )
    assert sum(one.accepted for one in came) > 30


@pytest.mark.parametrize("tokens", [1, 3, 8])
def test_a_draft_that_is_the_model_itself_is_always_right_and_saves_steps(llama: Any, tokens: int) -> None:
    sequences = [drafted(sequence(n, [5, 6, 7, 8 + n], 41), tokens) for n in range(3)]
    player = Player(engine_of(llama, drafter_of(llama, llama)))
    player.add(*sequences)
    steps = 0
    while player.engine.busy:
        player.step()
        steps += 1
    assert [player.outcomes[one.key] for one in sequences] == [alone(llama, one.prompt, 41) for one in sequences]
    assert all(one.accepted == one.drafted > 0 for one in sequences)
    assert steps <= 41 // (1 + tokens) + 6


def test_sliding_windows_are_cut_like_other_layers(
    load_tiny: Callable[[str], Any], tiny_model: Callable[[str], Path]
) -> None:
    from mlx_lm.utils import load_model

    whole = load_model(tiny_model("gemma3_text"))[0]
    assert keep_windows_whole(whole)
    came = check_all_say_what_they_say_alone(
        engine_of(whole, drafter_of(whole, whole), Whims(3), own_cost=30),
        load_tiny("gemma3_text"),
        random.Random(3),
        20,
        prepare=lambda one, _: drafted(one, 3),
    )
    assert sum(one.accepted for one in came) > 30


def test_a_draft_that_is_never_right_is_given_up(llama: Any, tmp_path: Path) -> None:
    from mlx_lm.utils import load_model
    from support.tiny.models import make_model

    stranger = load_model(make_model(tmp_path, "llama", seed=9))[0]
    drafter = drafter_of(stranger, llama)
    sequences = [drafted(sequence(n, [5, 6, 7, 8 + n], 200)) for n in range(4)]
    assert play(engine_of(llama, drafter, Worth()), *sequences) == [alone(llama, s.prompt, 200) for s in sequences]
    assert sum(one.drafted for one in sequences) < 160


SAMPLINGS = (
    pytest.param(Sampling(temperature=0.9, seed=5), id="temperature"),
    pytest.param(Sampling(temperature=1.3, top_p=0.8, top_k=20, min_p=0.02, seed=-3), id="filters"),
    pytest.param(Sampling(temperature=1.0, seed=8, repetition_penalty=1.2, presence_penalty=0.5), id="penalties"),
    pytest.param(Sampling(temperature=0.0, frequency_penalty=1.0, logit_bias={7: 2.0, 9: -9.0}), id="greedy"),
)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_seed_gives_the_same_answer_with_a_draft_as_without(llama: Any, perturbed: Any, sampling: Sampling) -> None:
    prompts = [random_prompt(random.Random(number), llama) for number in range(8)]

    def asked() -> list[Sequence]:
        return [drafted(sequence(number, prompt, 24, sampling), 3) for number, prompt in enumerate(prompts)]

    sequences = asked()
    assert play(engine_of(llama, drafter_of(perturbed, llama)), *sequences) == play(engine_of(llama, None), *asked())
    assert sum(one.accepted for one in sequences) > 20


def test_unseeded_tokens_are_drawn_from_the_models_own_distribution(llama: Any, perturbed: Any) -> None:
    """The third token after a prompt, which a draft may have proposed: frequencies against the exact probabilities."""
    import mlx.core as mx

    prompt, draws = [5, 6, 7], 300
    sequences = [drafted(sequence(n, prompt, 3, Sampling(temperature=1.0, top_k=2)), 1) for n in range(draws)]
    outcomes = play(engine_of(llama, drafter_of(perturbed, llama), rows=8), *sequences)
    counts = Counter(tuple(outcome.tokens) for outcome in outcomes)
    assert 0.2 * draws < sum(one.accepted for one in sequences) < draws

    def top2(context: tuple[int, ...]) -> dict[int, float]:
        logits = llama(mx.array([[*prompt, *context]]))[0, -1]
        best = mx.argsort(-logits)[:2]
        return dict(zip(best.tolist(), mx.softmax(logits[best]).tolist(), strict=True))

    shares: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        shares = {
            (*before, token): share * own for before, share in shares.items() for token, own in top2(before).items()
        }
    cells = [(counts[tokens], draws * share) for tokens, share in shares.items() if draws * share >= 5]
    assert len(cells) >= 4
    assert sum((seen - expected) ** 2 / expected for seen, expected in cells) < 3 * len(cells) + 15
    assert counts.keys() <= shares.keys()


@pytest.mark.parametrize("limits", [Limits(), Limits(min_tokens=10), Limits(ignore_eos=True)], ids=repr)
def test_stop_tokens_and_least_lengths_are_kept(llama: Any, perturbed: Any, limits: Limits) -> None:
    stop = frozenset({alone(llama, [5, 6, 7], 6).tokens[-1]})

    def asked() -> list[Sequence]:
        made = [drafted(sequence(n, [5, 6, 7, *range(8, 8 + n)], 20), 3) for n in range(3)]
        for one in made:
            one.limits = limits
        return made

    drafter = drafter_of(perturbed, llama)
    ours = play(engine_of(llama, drafter, stop_tokens=stop), *asked())
    assert ours == play(engine_of(llama, None, stop_tokens=stop), *asked())


def test_reports_are_those_of_single_steps(llama: Any, perturbed: Any) -> None:
    def asked() -> list[Sequence]:
        made = [drafted(sequence(n, [5, 6, 7, *range(8, 8 + n)], 12), 3) for n in range(3)]
        for number, one in enumerate(made):
            one.logprobs = number or None
        return made

    ours = reports(engine_of(llama, drafter_of(perturbed, llama)), asked())
    theirs = reports(engine_of(llama, None), asked())
    assert [(one.token, one.finish) for one in ours] == [(one.token, one.finish) for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprob == (None if other.logprob is None else pytest.approx(other.logprob, abs=1e-4))
        assert [token for token, _ in one.top] == [token for token, _ in other.top]


def test_a_grammar_holds_with_a_draft(llama: Any, perturbed: Any, tiny_model: Callable[[str], Path]) -> None:
    from mlx_lm.utils import load_tokenizer

    vocabulary = Vocabulary(load_tokenizer(tiny_model("llama")), llama.args.vocab_size)

    def asked() -> list[Sequence]:
        made = [drafted(sequence(n, [5, 6, 7, 8 + n], 40), 3) for n in range(4)]
        for one in made[::2]:
            one.grammar = vocabulary.compile(Grammar("regex", "[a-z]{3,9}( [a-z]{2,5})*", "grammar"))
        return made

    drafter, stop = drafter_of(perturbed, llama), frozenset({2})
    try:
        ours = play(engine_of(llama, drafter, stop_tokens=stop), *(sequences := asked()))
        assert ours == play(engine_of(llama, None, stop_tokens=stop), *asked())
    finally:
        vocabulary.close()
    assert all(one.drafted for one in sequences)


class Watched:
    """A draft model, which counts the tokens that it reads, and some calls of which fail after it has read."""

    def __init__(self, model: Any, failures: list[int]) -> None:
        self.model, self.failures = model, failures
        self.calls = self.tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, tokens: Any, **more: Any) -> Any:
        logits = self.model(tokens, **more)
        self.calls += 1
        self.tokens += tokens.size
        if self.failures and self.calls == self.failures[0]:
            self.failures.pop(0)
            raise ValueError("the draft fails")
        return logits


def test_what_the_draft_has_read_of_a_prompt_is_known_to_the_next(llama: Any, perturbed: Any) -> None:
    watched = Watched(perturbed, [])
    player = Player(engine_of(llama, drafter_of(watched, llama, prefixes=PrefixStore(64 << 20))))
    prompt, read = list(range(4, 204)), [0]
    for number in range(2):
        player.add(one := drafted(sequence(number, prompt, 40), 3))
        assert player.run()[one.key] == alone(llama, prompt, 40)
        read.append(watched.tokens)
    first, second = read[1] - read[0], read[2] - read[1]
    assert first > 200 > second > 20


def test_a_draft_reads_no_more_than_its_context_takes(llama: Any, perturbed: Any) -> None:
    short, long = drafted(sequence(1, [5, 6, 7], 90), 3), drafted(sequence(2, list(range(4, 84)), 10), 3)
    outcomes = play(engine_of(llama, drafter_of(perturbed, llama, context_length=80)), short, long)
    assert outcomes == [alone(llama, one.prompt, one.max_tokens) for one in (short, long)]
    assert 0 < short.drafted < 80
    assert long.drafted == 0


@pytest.mark.parametrize("size", [285, 500], ids=["smaller", "larger"])
def test_a_draft_may_have_another_padding(llama: Any, tmp_path: Path, size: int) -> None:
    """Its embeddings have other rows than the model's: no id may be looked up that is not there."""
    import mlx.core as mx
    from mlx_lm.utils import load_model
    from support.tiny.models import make_model

    folder = make_model(tmp_path, "llama", seed=0)
    config = json.loads((folder / "config.json").read_text())
    weights = cast(dict[str, mx.array], mx.load(str(folder / "model.safetensors")))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = weights[name]
        filler = mx.ones((max(0, size - rows.shape[0]), rows.shape[1])) * 3
        weights[name] = mx.concatenate([rows[:size], filler])
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": size}))
    draft = load_model(folder)[0]

    def asked() -> list[Sequence]:
        return [
            drafted(sequence(n, [n + 4, 280, 290], 16, how), 3)
            for n, how in enumerate((GREEDY, Sampling(temperature=0.9, seed=5)))
        ]

    sequences = asked()
    assert play(engine_of(llama, drafter_of(draft, llama)), *sequences) == play(engine_of(llama, None), *asked())
    assert sum(one.accepted for one in sequences)


def test_answers_survive_a_draft_that_fails(llama: Any, perturbed: Any) -> None:
    watched = Watched(perturbed, [2, 9])
    sequences = [drafted(sequence(n, [5, 6, 7, 8 + n], 40), 3) for n in range(3)]
    outcomes = play(engine_of(llama, drafter_of(watched, llama)), *sequences)
    assert outcomes == [alone(llama, one.prompt, 40) for one in sequences]
    assert not watched.failures
