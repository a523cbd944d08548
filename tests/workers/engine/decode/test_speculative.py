import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from support.engines import GREEDY, SEEDED, Outcome, Player, alone, random_prompt, sequence

from mlx_server.schemas.internal.generation import Limits, Sampling
from mlx_server.workers.engine.decode.draft import DraftModel, trimmable
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.decode.speculative import SpeculativeEngine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
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


def draft_of(draft: Any, model: Any, context_length: int | None = None) -> DraftModel:
    return DraftModel(draft, draft.args.vocab_size, model.args.vocab_size, context_length)


def speculative(
    model: Any,
    draft: Any,
    stop_tokens: frozenset[int] = frozenset(),
    context_length: int | None = None,
    **stores: PrefixStore,
) -> SpeculativeEngine:
    proposing = draft_of(draft, model, context_length)
    return SpeculativeEngine(model, proposing, set(stop_tokens), prefill_step_size=8, **stores)


def with_draft(one: Sequence, tokens: int = 3) -> Sequence:
    one.draft_tokens = tokens
    return one


def play(engine: Any, *sequences: Sequence) -> list[Outcome]:
    player = Player(engine)
    player.add(*sequences)
    outcomes = player.run()
    assert player.errors == {}
    return [outcomes[one.key] for one in sequences]


def plain(model: Any, one: Sequence, stop_tokens: frozenset[int] = frozenset()) -> Outcome:
    """The answer of decoding without a draft."""
    copy = sequence(one.key[0], one.prompt, one.max_tokens, one.sampling)
    copy.limits, copy.logprobs = one.limits, one.logprobs
    return play(SequentialEngine(model, set(stop_tokens), prefill_step_size=8), copy)[0]


@pytest.mark.parametrize("tokens", [1, 3, 8])
def test_greedy_answers_equal_plain_ones_on_fifty_prompts(llama: Any, perturbed: Any, tokens: int) -> None:
    rng = random.Random(tokens)
    sequences = [
        with_draft(sequence(n, random_prompt(rng, llama), rng.randint(1, 24)), rng.randint(1, tokens))
        for n in range(50)
    ]
    stop_tokens = frozenset(alone(llama, one.prompt, 5).tokens[-1] for one in sequences[:10])
    outcomes = play(speculative(llama, perturbed, stop_tokens), *sequences)
    for one, outcome in zip(sequences, outcomes, strict=True):
        assert outcome == alone(llama, one.prompt, one.max_tokens, stop_tokens)
        assert one.emitted == outcome.tokens
    assert {outcome.end for outcome in outcomes} == {"stop", "length"}
    drafted, accepted = sum(one.drafted for one in sequences), sum(one.accepted for one in sequences)
    assert 0.2 < accepted / drafted < 0.98, "the draft is of no use, or the same model"


def test_a_draft_that_is_the_model_itself_is_always_right_and_saves_steps(llama: Any) -> None:
    one = with_draft(sequence(1, [5, 6, 7], 20))
    player = Player(speculative(llama, llama))
    player.add(one)
    steps = [len(player.step()) for _ in range(20) if player.engine.busy]
    assert [size for size in steps if size] == [4] * 5
    assert (one.drafted, one.accepted) == (15, 15)


def test_a_draft_that_knows_nothing_costs_nothing_but_time(llama: Any, tiny_model: Any, tmp_path: Path) -> None:
    from mlx_lm.utils import load_model
    from support.tiny.models import make_model

    stranger = load_model(make_model(tmp_path, "llama", seed=9))[0]
    one = with_draft(sequence(1, [5, 6, 7], 20))
    [outcome] = play(speculative(llama, stranger), one)
    assert outcome == alone(llama, one.prompt, 20)
    assert one.accepted < one.drafted / 3


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param(Sampling(temperature=0.9, seed=5), id="temperature"),
        pytest.param(Sampling(temperature=1.3, top_p=0.8, top_k=20, min_p=0.02, seed=-3), id="filters"),
        pytest.param(Sampling(temperature=1.0, seed=8, repetition_penalty=1.2, presence_penalty=0.5), id="penalties"),
        pytest.param(Sampling(temperature=0.0, frequency_penalty=1.0, logit_bias={7: 2.0, 9: -9.0}), id="greedy"),
    ],
)
def test_a_seed_gives_the_same_answer_with_a_draft_as_without(llama: Any, perturbed: Any, sampling: Sampling) -> None:
    rng = random.Random(3)
    for number in range(8):
        one = with_draft(sequence(number, random_prompt(rng, llama), 24, sampling))
        [outcome] = play(speculative(llama, perturbed), one)
        assert outcome == plain(llama, one)
        assert one.accepted


def test_unseeded_tokens_are_drawn_from_the_models_own_distribution(llama: Any, perturbed: Any) -> None:
    """The second token after a prompt, which a draft may have proposed: frequencies against the exact probabilities."""
    import mlx.core as mx

    prompt, draws = [5, 6, 7], 600
    sampling = Sampling(temperature=1.0, top_k=3)
    firsts: Counter[int] = Counter()
    pairs: Counter[tuple[int, ...]] = Counter()
    sequences = [with_draft(sequence(n, prompt, 2, sampling), 1) for n in range(draws)]
    for outcome in play(speculative(llama, perturbed), *sequences):
        pairs[tuple(outcome.tokens)] += 1
        firsts[outcome.tokens[0]] += 1
    assert 0.2 * draws < sum(one.accepted for one in sequences) < draws

    def top3(context: list[int]) -> dict[int, float]:
        logits = llama(mx.array([context]))[0, -1]
        best = mx.argsort(-logits)[:3]
        shares = mx.softmax(logits[best])
        return dict(zip(best.tolist(), shares.tolist(), strict=True))

    chi_squared, cells = 0.0, 0
    for first, share in top3(prompt).items():
        for second, next_share in top3([*prompt, first]).items():
            expected = draws * share * next_share
            if expected >= 5:
                chi_squared += (pairs[first, second] - expected) ** 2 / expected
                cells += 1
    assert cells >= 4
    assert chi_squared < 3 * cells + 15
    assert len(pairs) <= 9


def test_stop_tokens_and_least_lengths_are_kept(llama: Any, perturbed: Any) -> None:
    stop = alone(llama, [5, 6, 7], 6).tokens[-1]
    for limits in (Limits(), Limits(min_tokens=10), Limits(ignore_eos=True), Limits(stop_token_ids=(stop,))):
        one = with_draft(sequence(1, [5, 6, 7], 20))
        one.limits = limits
        stop_tokens = frozenset() if limits.stop_token_ids else frozenset({stop})
        [outcome] = play(speculative(llama, perturbed, stop_tokens), one)
        assert outcome == plain(llama, one, stop_tokens), limits


def test_logprobs_are_those_of_plain_decoding(llama: Any, perturbed: Any) -> None:
    def reports(engine: Any) -> list[tuple[int, float | None, tuple[tuple[int, float], ...]]]:
        one = with_draft(sequence(1, [5, 6, 7], 12))
        one.logprobs = 2
        engine.add(one)
        tokens = []
        while engine.busy:
            tokens += [(item.token, item.logprob, item.top) for item in engine.step()]
        return tokens

    got = reports(speculative(llama, perturbed))
    expected = reports(SequentialEngine(llama, set(), prefill_step_size=8))
    assert [(token, [id_ for id_, _ in top]) for token, _, top in got] == [
        (token, [id_ for id_, _ in top]) for token, _, top in expected
    ]
    assert [logprob for _, logprob, _ in got] == pytest.approx([logprob for _, logprob, _ in expected], abs=1e-4)


def test_both_models_read_a_long_prompt_in_chunks(llama: Any, perturbed: Any) -> None:
    player = Player(speculative(llama, perturbed))
    player.add(with_draft(sequence(1, list(range(4, 30)), 4)))
    steps = []
    while player.engine.busy:
        steps.append(len(player.step()))
    assert steps[:7] == [0] * 7  # four chunks of the model, three of the draft
    assert all(steps[7:])


@pytest.mark.parametrize("steps", [3, 6, 12, 100], ids=["prefilling", "draft-prefilling", "decoding", "ended"])
def test_what_both_have_read_of_a_prompt_is_known_to_the_next(llama: Any, perturbed: Any, steps: int) -> None:
    kept, drafts = PrefixStore(64 << 20, checkpoints=True), PrefixStore(64 << 20)
    engine = speculative(llama, perturbed, prefixes=kept, draft_prefixes=drafts)
    player, prompt = Player(engine), list(range(4, 44))
    player.add(first := with_draft(sequence(1, prompt, 20)))
    for _ in range(steps):
        if engine.busy:
            player.step()
    engine.remove(first.key)
    player.add(second := with_draft(sequence(2, [*prompt, *first.emitted, 7, 8], 10)))
    before = second.context[:-1]
    assert player.run()[second.key] == alone(llama, second.prompt, 10)
    assert second.cached_tokens == min(8 * steps, len(prompt) - 1) if steps < 12 else second.cached_tokens >= 39
    assert drafts.nbytes > 0
    player.add(third := with_draft(sequence(3, second.prompt, 10)))
    player.step()
    assert (third.cached_tokens, bool(third.emitted)) == (len(before), True), "nothing is left to read for either"
    assert player.run()[third.key] == player.outcomes[second.key]


@pytest.mark.parametrize("steps", [0, 1, 6, 9], ids=["waiting", "prefilling", "draft-prefilling", "decoding"])
def test_remove_drops_the_first_in_line_at_any_stage(llama: Any, perturbed: Any, steps: int) -> None:
    player = Player(speculative(llama, perturbed))
    leaves, stays = with_draft(sequence(1, list(range(4, 34)), 20)), with_draft(sequence(2, [5, 6, 7], 5))
    player.add(leaves, stays)
    for _ in range(steps):
        player.step()
    before = list(player.outcomes[leaves.key].tokens)
    player.engine.remove(leaves.key)
    player.engine.remove((99, 0))
    outcomes = player.run()
    assert outcomes[leaves.key] == Outcome(before, None)
    assert outcomes[stays.key] == alone(llama, stays.prompt, 5)


def test_a_replayed_sequence_goes_on_where_it_was(llama: Any, perturbed: Any) -> None:
    sampling = Sampling(temperature=0.9, seed=5, presence_penalty=0.5)
    [expected] = play(speculative(llama, perturbed), with_draft(sequence(1, [5, 6, 7], 20, sampling)))
    for position in (1, 7, 19):
        resumed = with_draft(sequence(2, [5, 6, 7], 20, sampling))
        resumed.emitted = expected.tokens[:position]
        assert play(speculative(llama, perturbed), resumed)[0].tokens == expected.tokens[position:]


def test_a_draft_reads_no_more_than_its_context_takes(llama: Any, perturbed: Any) -> None:
    short, long = with_draft(sequence(1, [5, 6, 7], 40)), with_draft(sequence(2, list(range(4, 34)), 10))
    outcomes = play(speculative(llama, perturbed, context_length=16), short, long)
    assert outcomes == [alone(llama, one.prompt, one.max_tokens) for one in (short, long)]
    assert 0 < short.drafted <= 16
    assert long.drafted == 0


@pytest.mark.parametrize("size", [285, 500], ids=["smaller", "larger"])
def test_a_draft_may_have_another_padding(llama: Any, tmp_path: Path, size: int) -> None:
    """Its embeddings have other rows than the model's: no id may be looked up that is not there."""
    import json

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
    sequences = [with_draft(sequence(n, [n + 4, 280, 290], 16, s)) for n, s in enumerate((GREEDY, SEEDED))]
    for one, outcome in zip(sequences, play(speculative(llama, draft), *sequences), strict=True):
        assert outcome.end == "length"
        if one.sampling is GREEDY:
            assert outcome == alone(llama, one.prompt, 16)
    assert sum(one.accepted for one in sequences)


def test_a_full_window_ends_the_proposals_and_not_the_answer(llama: Any, tmp_path: Path) -> None:
    import json

    from mlx_lm.utils import load_model
    from support.tiny.models import make_model

    folder = make_model(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    layers = ["sliding_attention", "full_attention"]
    (folder / "config.json").write_text(json.dumps({**config, "sliding_window": 24, "layer_types": layers}))
    model = load_model(folder)[0]
    for prompt in ([5, 6, 7], list(range(4, 50))):
        one = with_draft(sequence(1, prompt, 40))
        [outcome] = play(speculative(model, llama), one)
        assert outcome == alone(model, prompt, 40)
        assert (one.drafted > 0) is (len(prompt) < 24)
        assert one.drafted < 40


def test_a_model_that_can_not_forget_is_told_from_one_that_can(load_tiny: Callable[[str], Any]) -> None:
    assert trimmable(load_tiny("llama"))
    assert not trimmable(load_tiny("mamba"))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(sequence(1, [5, 6, 7], 5, Sampling(repetition_penalty=cast(float, "strong"))), id="processor"),
        pytest.param(sequence(1, [5, 6, 7], 5, Sampling(logit_bias={5: cast(float, "much")})), id="making-processors"),
    ],
)
def test_an_exception_breaks_only_its_sequence(llama: Any, perturbed: Any, bad: Sequence) -> None:
    player = Player(speculative(llama, perturbed))
    good = with_draft(sequence(2, [5, 6, 7], 5))
    player.add(with_draft(bad), good)
    outcomes = player.run()
    assert outcomes[bad.key].end == "broken"
    assert outcomes[good.key] == alone(llama, good.prompt, 5)


def test_close_forgets_everything(llama: Any, perturbed: Any) -> None:
    engine = speculative(llama, perturbed)
    player = Player(engine)
    player.add(with_draft(sequence(1, [5], 5)), with_draft(sequence(2, [5], 5)))
    player.step()
    engine.close()
    assert not engine.busy
