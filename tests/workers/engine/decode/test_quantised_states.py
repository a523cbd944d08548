"""Models that hold their KV states in few bits: in a batch as alone, with kept prompts, guesses and choices."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import pytest
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.utils import load_model
from support.engines import GREEDY, SEEDED, Outcome, Player, alone, random_prompt, sequence
from support.tiny.models import make_model

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.fleet.memory_estimate import token_bytes
from mlx_server.schemas.internal.state_bits import StateBits
from mlx_server.workers.engine.decode.admission import footprint
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.probe import Batching, probe
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.kvcache.prefix_files import PrefixFiles
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.kvcache.quantised import QuantisedKVCache
from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
from mlx_server.workers.engine.prompt.prompts import choice_of
from mlx_server.workers.engine.propose.batch import ProposingBatch
from mlx_server.workers.engine.propose.memory import Memory
from mlx_server.workers.engine.propose.trial import objection
from mlx_server.workers.engine.sequence import Key, Sequence
from mlx_server.workers.handlers.quantised_states import QuantisedStates

pytestmark = pytest.mark.model

MORE = {
    "llama": {"num_hidden_layers": 3},
    "gemma3_text": {"num_hidden_layers": 4},
    "qwen3_next": {"num_hidden_layers": 4},
}
"""Of which each has layers that can be quantised; the second has windows, the third recurrent layers beside them."""
MIXED = {"llama": "8,4,8", "gemma3_text": "4,8", "qwen3_next": "4,8"}
"""Bits of those layers."""

PROMPT = [4 + i % 90 for i in range(200)]


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Loads tiny models with heads of 32, whose states are held in so many bits."""
    loaded: dict[tuple[str, str, bool], Any] = {}

    def load(architecture: str, bits: str, *, packed: bool = False) -> Any:
        if (architecture, bits, packed) not in loaded:
            folder = tmp_path_factory.mktemp(architecture)
            model, _ = load_model(make_model(folder, architecture, head_dim=32, **MORE[architecture]))
            QuantisedStates(
                model, StateBits.parse(MIXED[architecture] if bits == "mixed" else bits), packed=packed
            ).hold()
            loaded[architecture, bits, packed] = model
        return loaded[architecture, bits, packed]

    return load


def _engine(model: Any, prefixes: PrefixStore | None = None, **how: Any) -> BatchEngine:
    return BatchEngine(model, set(), rows=6, joint_prefill=True, prefill_step_size=16, prefixes=prefixes, **how)


def _alone(model: Any, one: Sequence) -> Outcome:
    player = Player(SequentialEngine(model, set(), prefill_step_size=512))
    player.add(sequence(9, one.prompt, one.max_tokens, one.sampling))
    return player.run()[(9, 0)]


def _play(model: Any, seed: str, **how: Any) -> None:
    """Sequences that join and leave at random; each must say what it says alone."""
    rng, player = random.Random(seed), Player(_engine(model, **how))
    sequences: dict[Key, Sequence] = {}
    left: set[Key] = set()
    while len(sequences) < 10 or player.engine.busy:
        if len(sequences) < 10 and rng.random() < 0.4:
            number = len(sequences)
            sampling = GREEDY if number % 2 else msgspec.structs.replace(SEEDED, seed=number)
            one = sequence(number, random_prompt(rng, model, 60) * rng.randint(1, 2), rng.randint(1, 24), sampling)
            sequences[one.key] = one
            player.add(one)
        running = [key for key, outcome in player.outcomes.items() if outcome.end is None and key not in left]
        if running and rng.random() < 0.05:
            left.add(leaving := rng.choice(running))
            player.engine.remove(leaving)
        if player.engine.busy:
            player.step()
    for key, one in sequences.items():
        expected, outcome = _alone(model, one), player.outcomes[key]
        assert outcome == expected if key not in left else outcome.tokens == expected.tokens[: len(outcome.tokens)]


@pytest.mark.parametrize("architecture", MORE)
@pytest.mark.parametrize("bits", ["8", "4", "mixed"])
def test_sequences_that_join_and_leave_equal_one_at_a_time(
    quantised: Callable[..., Any], architecture: str, bits: str
) -> None:
    model = quantised(architecture, bits)
    for seed in range(2):
        _play(model, f"{bits} {seed}")


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
def test_guesses_are_checked_and_change_nothing(quantised: Callable[..., Any], packed: bool) -> None:
    """Rows that were asked before beside others: each is cut by another number of tokens."""
    model, rng = quantised("llama", "8", packed=packed), random.Random(5)
    assert objection(model, model.args.vocab_size) is None
    prompts = [random_prompt(rng, model, 60) for _ in range(6)]
    player = Player(_engine(model, make_rows=partial(ProposingBatch, memory=Memory())))
    asked = []
    for number in (0, 1, 2, *range(6)):
        one = sequence(len(asked), prompts[number], 20 + number)
        one.speculate = "ngram"
        asked.append(one)
        player.add(one)
        if len(asked) == 3:
            player.run()
    outcomes = list(player.run().values())
    assert outcomes[3:] == [alone(model, prompt, 20 + number) for number, prompt in enumerate(prompts)]
    assert outcomes[:3] == outcomes[3:6]
    assert sum(one.accepted for one in asked[3:6]) > 30


@pytest.mark.parametrize("architecture", MORE)
def test_batching_is_found_to_change_nothing(quantised: Callable[..., Any], architecture: str) -> None:
    model = quantised(architecture, "8", packed=True)
    kinds = {type(layer) for layer in make_prompt_cache(model)}
    assert KVCache not in kinds
    assert any(issubclass(kind, QuantisedKVCache) for kind in kinds)
    assert probe(model, 3, model.args.vocab_size) == (Batching.JOINT, "")


@pytest.mark.parametrize("architecture", MORE)
def test_a_known_beginning_is_taken_over_in_memory_and_from_disk(
    quantised: Callable[..., Any], architecture: str, tmp_path: Path
) -> None:
    model = quantised(architecture, "mixed")
    turns = [PROMPT, [*PROMPT, 7, 8, 9], [*PROMPT, 9, 8, 7, 6]]
    for known in (0, len(PROMPT) - 1):  # by nobody, then by the process before
        files = PrefixFiles(tmp_path, 1 << 30, model, rest_s=0.0)
        engine = _engine(model, PrefixStore(64 << 20, checkpoints=True, second=files))
        for number, prompt in enumerate(turns):
            player, one = Player(engine), sequence(number, prompt, 6)
            player.add(one)
            player.run()
            assert one.emitted == alone(model, prompt, 6).tokens
            assert one.cached_tokens >= (known if not number else len(PROMPT) - 1)
        engine.close()


@pytest.mark.parametrize("architecture", MORE)
def test_choices_of_a_prompt_fork_its_states(quantised: Callable[..., Any], architecture: str) -> None:
    model = quantised(architecture, "4")
    first = sequence(1, PROMPT[:50], 12, msgspec.structs.replace(SEEDED, seed=11))
    first.prefix = SharedPrefix(4)
    choices = [first, *(choice_of(first, number) for number in range(1, 4))]
    player = Player(_engine(model))
    player.add(*choices)
    outcomes = player.run()
    assert [outcomes[one.key] for one in choices] == [_alone(model, one) for one in choices]


def test_whoever_leaves_frees_its_states(quantised: Callable[..., Any]) -> None:
    model = quantised("llama", "8")
    engine = _engine(model)
    for number in range(4):
        engine.add(sequence(number, PROMPT[: 40 + number], 100))

    def run(steps: int) -> int:
        for _ in range(steps):
            engine.step()
        mx.synchronize()
        mx.clear_cache()
        return mx.get_active_memory()

    full = run(20)
    for number in range(3):
        engine.remove((number, 0))
    assert full - run(4) > 2.5 * footprint(model).bytes_of(256)


def test_admission_counts_the_bits_that_are_held(quantised: Callable[..., Any]) -> None:
    """Heads of 32 numbers share a scale and a bias of four bytes each."""
    per_layer = 2 * 2 * 32  # keys and values of two heads
    for bits, nbytes in (("8", 3 * (1 + 0.25)), ("4", 3 * (0.5 + 0.25)), ("mixed", 2 * (1 + 0.25) + 0.5 + 0.25)):
        assert footprint(quantised("llama", bits)).per_token == per_layer * nbytes


def test_windows_keep_their_width(quantised: Callable[..., Any]) -> None:
    kinds = [type(layer).__name__ for layer in make_prompt_cache(quantised("gemma3_text", "8"))]
    assert kinds == ["RotatingKVCache", "QuantisedKVCache"] * 2


@pytest.mark.parametrize(("architecture", "bits"), [("llama", "8,4,8"), ("gemma3_text", "8"), ("gemma3_text", "4,8")])
def test_a_token_takes_what_was_thought_before_the_load(tmp_path: Path, architecture: str, bits: str) -> None:
    folder = make_model(tmp_path, architecture, head_dim=64, **MORE[architecture])
    model, _ = load_model(folder)
    held = StateBits.parse(bits)
    QuantisedStates(model, held, packed=False).hold()
    assert footprint(model).per_token == token_bytes(read_model(folder), wide=True, bits=held)
