"""Prompts that begin as earlier ones did: the answers are the same, and less is computed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from support.engines import GREEDY, SEEDED, Engine, Player, alone, random_prompt, sequence

from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.kvcache.prefix_store import EVERYBODY, PrefixStore
from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
from mlx_server.workers.engine.prompt.prompts import choice_of
from mlx_server.workers.engine.sequence import Key, Sequence

pytestmark = pytest.mark.model

END = 2
"""The token that ends messages."""

JOINT = {"llama": True, "gemma3_text": True, "mamba": False, "qwen3_next": True}


def _store(limit_bytes: int = 64 << 20) -> PrefixStore:
    return PrefixStore(limit_bytes, checkpoints=True)


def _engine(model: Any, store: PrefixStore, *, joint: bool = True, **more: Any) -> BatchEngine:
    how = {"rows": 6, "prefill_step_size": 32} | more
    return BatchEngine(model, {END}, joint_prefill=joint, prefixes=store, **how)


def _message(rng: random.Random, model: Any, length: int) -> list[int]:
    return [*(rng.randrange(4, model.args.vocab_size) for _ in range(length)), END]


def _run(engine: Engine, number: int, prompt: list[int], max_tokens: int = 6, **what: Any) -> Sequence:
    """One sequence by itself, with what came of it."""
    one = sequence(number, prompt, max_tokens)
    for name, value in what.items():
        setattr(one, name, value)
    player = Player(engine)
    player.add(one)
    player.run()
    return one


def _check(model: Any, one: Sequence) -> None:
    assert one.emitted == alone(model, one.prompt, one.max_tokens, frozenset({END})).tokens


@pytest.mark.parametrize("architecture", JOINT)
@pytest.mark.parametrize("seed", range(2))
def test_sequences_that_share_beginnings_equal_mlx_lms_unbatched(
    load_tiny: Callable[[str], Any], architecture: str, seed: int
) -> None:
    model, rng = load_tiny(architecture), random.Random(seed)
    numbers = iter(range(1_000_000))

    class Failing(DecodeBatch):
        def step(self) -> list[Drawn]:
            drawn = super().step()
            if next(numbers) % 61 == 60:
                raise RuntimeError("this step fails when it has been done")
            return drawn

    store = _store(rng.choice([1 << 20, 64 << 20]))
    player = Player(_engine(model, store, joint=JOINT[architecture], make_rows=Failing))
    system = _message(rng, model, 70)
    histories = [system + _message(rng, model, rng.randint(5, 60)) for _ in range(4)]
    sequences: dict[Key, Sequence] = {}
    left: set[Key] = set()
    while len(sequences) < 40 or player.engine.busy:
        running = [key for key, outcome in player.outcomes.items() if outcome.end is None and key not in left]
        if len(sequences) < 40 and len(running) < 8 and rng.random() < 0.6:
            number = rng.randrange(4)
            prompt = [*histories[number], *_message(rng, model, rng.randint(0, 30))][: rng.randint(1, 400)]
            one = sequence(len(sequences), prompt, rng.randint(1, 12), rng.choice([GREEDY, GREEDY, SEEDED]))
            one.use_cache, one.tenant = rng.random() < 0.9, rng.choice(["a", "b"])
            sequences[one.key] = one
            if rng.random() < 0.2:
                one.prefix = SharedPrefix(2)
                other = choice_of(one, 1)
                sequences[other.key] = other
                player.add(one, other)
            else:
                player.add(one)
        if running and rng.random() < 0.06:
            leaving = rng.choice(running)
            left.add(leaving)
            player.engine.remove(leaving)
        if player.engine.busy:
            player.step()
        ended = [one for key, one in sequences.items() if player.outcomes[key].end]
        if ended and rng.random() < 0.1:
            histories[rng.randrange(4)] = (one := rng.choice(ended)).context[:250]
    for key, one in sequences.items():
        if one.sampling is GREEDY:
            expected = alone(model, one.prompt, one.max_tokens, frozenset({END}))
            assert one.emitted == expected.tokens[: len(one.emitted)]
            assert key in left or player.outcomes[key] == expected
    assert sum(one.cached_tokens for one in sequences.values()) > 300


@pytest.mark.parametrize("architecture", JOINT)
def test_the_next_turn_of_a_conversation_begins_where_the_last_one_ended(
    load_tiny: Callable[[str], Any], architecture: str
) -> None:
    model, rng = load_tiny(architecture), random.Random(3)
    engine = _engine(model, _store(), joint=JOINT[architecture])
    first = _run(engine, 1, _message(rng, model, 90))
    second = _run(engine, 2, [*first.context, *_message(rng, model, 20)])
    _check(model, second)
    assert second.cached_tokens >= len(first.context) - 1
    again = _run(engine, 3, second.prompt)
    _check(model, again)
    assert again.cached_tokens == len(second.prompt) - 1


@pytest.mark.parametrize("architecture", JOINT)
def test_prompts_share_what_a_client_marked(load_tiny: Callable[[str], Any], architecture: str) -> None:
    """In the middle of a message, where no cache that can't be cut short would be kept otherwise."""
    model, rng = load_tiny(architecture), random.Random(7)
    engine = _engine(model, _store(), joint=JOINT[architecture])
    page = _message(rng, model, 100)[:-1]
    for number in range(3):
        one = _run(engine, number, [*page, *_message(rng, model, 30)], marks=(len(page), 10_000))
        _check(model, one)
        assert one.cached_tokens >= (len(page) if number else 0)


@pytest.mark.parametrize("architecture", JOINT)
def test_prompts_share_their_system_message(load_tiny: Callable[[str], Any], architecture: str) -> None:
    """Caches that can't be cut short were kept at its end."""
    model, rng = load_tiny(architecture), random.Random(4)
    engine = _engine(model, _store(), joint=JOINT[architecture])
    system = _message(rng, model, 100)
    for number in range(3):
        one = _run(engine, number, [*system, *_message(rng, model, 30)])
        _check(model, one)
        assert one.cached_tokens >= (len(system) if number else 0)


@pytest.mark.parametrize("architecture", JOINT)
def test_a_prompt_that_was_left_in_the_middle_is_gone_on_with(
    load_tiny: Callable[[str], Any], architecture: str
) -> None:
    model, rng = load_tiny(architecture), random.Random(5)
    engine = _engine(model, _store(), joint=JOINT[architecture], prefill_step_size=16)
    prompt = [rng.randrange(4, model.args.vocab_size) for _ in range(300)]
    known = 0
    for number in range(4):
        one = sequence(number, prompt)
        engine.add(one)
        for _ in range(4):
            engine.step()
        engine.remove(one.key)
        assert one.cached_tokens >= known
        known = one.cached_tokens + 16
    one = _run(engine, 9, prompt)
    assert one.cached_tokens >= known
    _check(model, one)


def test_a_model_that_takes_one_request_at_a_time_keeps_prompts_too(load_tiny: Callable[[str], Any]) -> None:
    model, rng = load_tiny("gemma2"), random.Random(6)
    engine = SequentialEngine(model, {END}, prefill_step_size=16, prefixes=_store())
    first = _run(engine, 1, _message(rng, model, 50))
    second = _run(engine, 2, [*first.context, *_message(rng, model, 10)])
    _check(model, second)
    assert second.cached_tokens >= len(first.prompt)


@pytest.mark.parametrize(
    "other",
    [{"tenant": "b"}, {"variant": "an adapter"}, {"use_cache": False}],
    ids=["tenant", "adapter", "not-wanted"],
)
def test_nothing_is_shared_with_another_tenant_or_adapter_or_against_a_clients_wish(
    llama: Any, other: dict[str, Any]
) -> None:
    prompt = random_prompt(random.Random(7), llama) * 20
    engine = _engine(llama, _store())
    _run(engine, 1, prompt, tenant="a")
    assert _run(engine, 2, prompt, **{"tenant": "a"} | other).cached_tokens == 0
    assert _run(engine, 3, prompt, tenant="a").cached_tokens == len(prompt) - 1


def test_what_is_not_to_be_kept_is_not(llama: Any) -> None:
    prompt = random_prompt(random.Random(7), llama) * 20
    engine = _engine(llama, _store())
    _run(engine, 1, prompt, use_cache=False)
    assert _run(engine, 2, prompt).cached_tokens == 0


def test_what_is_everybodys_is_shared(llama: Any) -> None:
    prompt = random_prompt(random.Random(7), llama) * 20
    engine = _engine(llama, _store())
    _run(engine, 1, prompt, tenant=EVERYBODY)
    assert _run(engine, 2, prompt, tenant="a").cached_tokens == len(prompt) - 1


def test_the_least_recently_used_leaves_first(llama: Any) -> None:
    rng = random.Random(8)
    prompts = [[rng.randrange(4, llama.args.vocab_size) for _ in range(120)] for _ in range(3)]
    probe = _store()
    _run(_engine(llama, probe), 0, prompts[0])
    engine = _engine(llama, _store(int(2.5 * probe.nbytes)))
    for number in (0, 1, 0, 2):
        _run(engine, number, prompts[number])
    assert [_run(engine, 10 + n, prompts[n], use_cache=True).cached_tokens > 0 for n in (0, 2)] == [True, True]
    assert _run(engine, 20, prompts[1]).cached_tokens == 0


def test_of_what_is_too_large_the_beginning_is_kept(llama: Any, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(12)
    prompt = [rng.randrange(4, llama.args.vocab_size) for _ in range(400)]
    probe = _store()
    _run(_engine(llama, probe), 0, prompt)
    store = _store(probe.nbytes // 2)
    engine = _engine(llama, store)
    _run(engine, 1, prompt)
    again = _run(engine, 2, prompt)
    _check(llama, again)
    assert len(prompt) // 4 < again.cached_tokens < len(prompt) // 2 + 16
    assert 0 < store.nbytes <= probe.nbytes // 2
    assert caplog.text.count("Raise --prefix-cache-mb") == 1, "however often it happens"


def test_a_prompt_that_was_cancelled_twice_is_read_on_and_not_again(llama: Any) -> None:
    rng = random.Random(13)
    prompt = [rng.randrange(4, llama.args.vocab_size) for _ in range(300)]
    engine = _engine(llama, _store())
    known = []
    for number in range(3):
        one = sequence(number, prompt, 4)
        engine.add(one)
        for _ in range(3):
            engine.step()
        engine.remove(one.key)
        known.append(one.cached_tokens)
    assert 0 == known[0] < known[1] < known[2]
    last = _run(engine, 9, prompt)
    _check(llama, last)
    assert last.cached_tokens > known[2]


def test_the_log_tells_where_a_conversation_became_another_one(llama: Any, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(14)
    system, first, second = (_message(rng, llama, length) for length in (40, 50, 60))
    engine = _engine(llama, _store())
    with caplog.at_level("INFO"):
        one = _run(engine, 1, [*system, *first], conversation="c")
        _run(engine, 2, [*one.context, *second], conversation="c")
        assert "differs" not in caplog.text
        _run(engine, 3, [*system, *second], conversation="c")
    assert f"differs at token {len(system)} of" in caplog.text
    assert "in message 1" in caplog.text


def test_two_that_come_together_and_begin_alike_share_what_the_first_has_read(llama: Any) -> None:
    rng = random.Random(9)
    system = _message(rng, llama, 150)
    player = Player(_engine(llama, _store()))
    both = [sequence(n, [*system, *_message(rng, llama, 10 + 60 * n)]) for n in range(2)]
    player.add(*both)
    player.run()
    for one in both:
        _check(llama, one)
    assert both[1].cached_tokens >= len(system)


def test_kept_states_take_no_more_memory_than_is_counted(load_tiny: Callable[[str], Any]) -> None:
    """A recurrent state is a slice of its whole chunk's buffer until it is copied."""
    model, store = load_tiny("mamba"), _store()
    engine = _engine(model, store, joint=False, prefill_step_size=1024)
    before, rng = mx.get_active_memory(), random.Random(0)
    for number in range(8):
        _run(engine, number, _message(rng, model, 900), max_tokens=1)
    assert store.nbytes > 0
    assert mx.get_active_memory() - before < 2 * store.nbytes


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "mamba", "qwen3_next"])
@pytest.mark.parametrize("leave", [1, 2])
def test_prompts_of_one_token_may_leave_before_anything_is_read(
    load_tiny: Callable[[str], Any], caplog: pytest.LogCaptureFixture, architecture: str, leave: int
) -> None:
    model = load_tiny(architecture)
    engine, rows = _engine(model, _store(), joint=False), [sequence(number, [5], 6) for number in range(2)]
    player = Player(engine)
    player.add(*rows)
    player.step()
    assert [len(group) for group in engine.groups] == [2]
    for one in rows[:leave]:
        engine.remove(one.key)
    assert engine.busy is (leave < 2)
    player.run()
    assert not caplog.records
    for one in rows[leave:]:
        _check(model, one)


def test_a_row_that_can_not_be_kept_ends_as_any_other(llama: Any) -> None:
    class FailingStore(PrefixStore):
        def keep(self, sequence: Sequence, cache: list[Any], tokens: int) -> None:
            raise TypeError("the test says so")

    engine = _engine(llama, FailingStore(64 << 20))
    player = Player(engine)
    player.add(leaves := sequence(1, [5, 6, 7, 8], 20))
    player.step()
    player.step()
    engine.remove(leaves.key)
    assert not engine.busy
    _check(llama, _run(engine, 2, [5, 6, 7, 8]))
