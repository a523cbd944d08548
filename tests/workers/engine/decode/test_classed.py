"""Sequences of several classes on one model: each says what it says alone, whatever came before it."""

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.engines import Outcome, Player, alone, random_prompt, sequence
from support.tiny.adapters import make_adapter

from mlx_server.schemas.internal.generation import Grammar
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.classed import ClassedEngine
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.decode.scoring import ScoringEngine
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.loading.adapters import Adapters
from mlx_server.workers.engine.propose.batch import ProposingBatch
from mlx_server.workers.engine.propose.draft_model import DraftModel
from mlx_server.workers.engine.propose.drafts import ModelDrafter
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.engine.side_by_side import SideBySide

pytestmark = pytest.mark.model
NAMES = (None, "a", "b")
END = 2


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Any:
    """A model that no other test has had."""
    from mlx_lm.utils import load_model

    return load_model(tiny_model("llama"))[0]


@pytest.fixture
def adapters(model: Any, tiny_model: Callable[[str], Path], tmp_path: Path) -> Adapters:
    for seed, name in enumerate("ab"):
        make_adapter(tiny_model("llama"), tmp_path / name, seed)
    return Adapters(model, None, tmp_path)


@pytest.fixture
def engine(model: Any, adapters: Adapters, llama: Any) -> ClassedEngine:
    """It keeps prompts, too."""
    prefixes = PrefixStore(64 << 20, checkpoints=True)
    draft = DraftModel(llama, llama.args.vocab_size, model.args.vocab_size, None)
    drafter = ModelDrafter(draft, 8, PrefillBudget(None, 8), PrefixStore(8 << 20))
    writing = BatchEngine(
        model,
        {END},
        rows=4,
        joint_prefill=True,
        prefill_step_size=8,
        prefixes=prefixes,
        make_rows=partial(ProposingBatch, drafter=drafter),
    )
    return ClassedEngine(SideBySide(writing, ScoringEngine(model, writing, prefixes)), adapters)


@pytest.fixture
def vocabulary(tiny_model: Callable[[str], Path], llama: Any) -> Iterator[Vocabulary]:
    from mlx_lm.utils import load_tokenizer

    vocabulary = Vocabulary(load_tokenizer(tiny_model("llama")), llama.args.vocab_size)
    yield vocabulary
    vocabulary.close()


def classed(number: int, prompt: list[int], adapter: str | None, draft_tokens: int = 0) -> Sequence:
    one = sequence(number, prompt, 10)
    one.adapter, one.draft_tokens, one.speculate = adapter, draft_tokens, "auto"
    return one


def expected(model: Any, adapters: Adapters, sequences: list[Sequence]) -> dict[tuple[int, int], Outcome]:
    outcomes = {}
    for one in sequences:
        adapters.use(one.adapter)
        outcomes[one.key] = alone(model, one.prompt, one.max_tokens, frozenset({END}))
    return outcomes


@pytest.mark.parametrize("seed", range(3))
def test_mixed_classes_each_say_what_they_say_alone(
    model: Any, adapters: Adapters, engine: ClassedEngine, seed: int
) -> None:
    rng = random.Random(seed)
    beginning = [*range(10, 60)]
    sequences = [
        classed(n, beginning + random_prompt(rng, model), rng.choice(NAMES), rng.choice((0, 0, 0, 1, 3)))
        for n in range(24)
    ]
    answers = expected(model, adapters, sequences)
    player = Player(engine)
    for one in sequences:
        player.add(one)
        for _ in range(rng.randint(0, 4)):
            player.step()
    assert player.run() == answers
    assert sum(one.cached_tokens for one in sequences) >= 2 * len(beginning)
    assert sum(one.drafted for one in sequences if one.draft_tokens) > 0


def test_those_of_one_class_run_together_and_others_wait(engine: ClassedEngine) -> None:
    player = Player(engine)
    player.add(*(classed(n, [5, 6, 7], name) for n, name in enumerate(("a", "a", None, "a"))))
    order = []
    while engine.busy:
        order.append({item.key[0] for item in player.step()})
    spans = [[i for i, keys in enumerate(order) if number in keys] for number in range(4)]
    assert spans[0] == spans[1]
    assert max(spans[1]) < min(spans[2])
    assert max(spans[2]) < min(spans[3])


def test_an_adapter_that_breaks_ends_its_own_sequences_only(
    model: Any, adapters: Adapters, engine: ClassedEngine, tmp_path: Path
) -> None:
    good = [classed(1, [5, 6, 7], None), classed(4, [5, 6, 7], "b")]
    answers = expected(model, adapters, good)
    bad = [classed(2, [5, 6, 7], "a"), classed(3, [5, 6, 7], "a", 3)]
    (tmp_path / "a" / "adapters.safetensors").write_bytes(b"rubbish")
    player = Player(engine)
    player.add(good[0], *bad, good[1])
    outcomes = player.run()
    assert {one.key: outcomes[one.key] for one in good} == answers
    assert [outcomes[one.key] for one in bad] == [Outcome([], "broken")] * 2
    assert "`adapters`: 'a' can't be used" in player.errors[2, 0]


def test_the_field_is_named_where_a_client_chose_the_adapter(engine: ClassedEngine, tmp_path: Path) -> None:
    (tmp_path / "a" / "adapters.safetensors").unlink()
    engine.add(classed(1, [5], "a"))
    [broken] = engine.step()
    assert getattr(broken, "param", None) == "adapters"


@pytest.mark.parametrize("seed", range(2))
def test_drafts_grammars_echoes_and_adapters_mixed_each_say_what_they_say_alone(
    model: Any, adapters: Adapters, engine: ClassedEngine, vocabulary: Vocabulary, seed: int
) -> None:
    """They share beginnings, and some leave early."""
    rng = random.Random(seed)
    beginnings = [[*range(10, 60)], [*range(10, 40), *range(90, 120)], [*range(10, 60), *range(20, 200)]]

    def made(number: int, grammar: bool) -> Sequence:
        own = random.Random(1000 * seed + number)
        prompt = own.choice(beginnings) + random_prompt(own, model)
        one = classed(number, prompt, own.choice(NAMES), own.choice((0, 0, 1, 3)))
        one.max_tokens, one.use_cache = own.choice((3, 10, 40)), own.random() < 0.9
        if grammar:
            one.grammar = vocabulary.compile(Grammar("regex", "[a-z]{3,9}( [a-z]{2,5})*", "grammar"))
        if own.random() < 0.3:
            one.echo, one.logprobs = "the prompt", own.choice((None, 0, 2))
        return one

    player, left = Player(engine), set()
    constrained = [rng.random() < 0.3 for _ in range(30)]
    sequences = [made(number, grammar) for number, grammar in enumerate(constrained)]
    for one in sequences:
        player.add(one)
        for _ in range(rng.randint(0, 6)):
            player.step()
        if rng.random() < 0.15:
            left.add(leaving := rng.choice(sequences[: one.key[0] + 1]))
            engine.remove(leaving.key)
    player.run()
    assert player.errors == {}
    for one in sequences:
        adapters.use(one.adapter)
        alone_engine = SequentialEngine(model, {END}, prefill_step_size=512)
        reference = Player(alone_engine)
        reference.add(made(one.key[0], constrained[one.key[0]]))
        expected = reference.run()[one.key]
        assert one.emitted == expected.tokens[: len(one.emitted)]
        assert one in left or player.outcomes[one.key] == expected
    assert sum(one.cached_tokens for one in sequences if one.draft_tokens) > 100
    assert sum(one.cached_tokens for one in sequences if not one.draft_tokens) > 100


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_remove_drops_a_sequence_that_waits_or_runs(
    model: Any, adapters: Adapters, engine: ClassedEngine, steps: int
) -> None:
    stays = classed(3, [8, 9], "b")
    answers = expected(model, adapters, [stays])
    player = Player(engine)
    player.add(classed(1, [5, 6, 7], "a"), classed(2, [5, 6, 7], "b"), stays)
    for _ in range(steps):
        player.step()
    for number in (1, 2, 99):
        engine.remove((number, 0))
    assert player.run()[stays.key] == answers[stays.key]


def test_an_adapter_whose_files_change_is_another_one(
    model: Any, adapters: Adapters, engine: ClassedEngine, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    prompt = [*range(10, 60)]
    player = Player(engine)
    for number in range(2):
        player.add(one := classed(number, prompt, "a"))
        player.run()
    assert one.cached_tokens == len(prompt) - 1
    shutil.rmtree(tmp_path / "a")
    make_adapter(tiny_model("llama"), tmp_path / "a", 7)
    player.add(other := classed(3, prompt, "a"))
    player.run()
    assert other.cached_tokens == 0
    assert player.outcomes[other.key] == expected(model, adapters, [other])[other.key]


def test_close_forgets_everything(engine: ClassedEngine) -> None:
    player = Player(engine)
    player.add(classed(1, [5], "a"), classed(2, [5], None))
    player.step()
    engine.close()
    assert not engine.busy
