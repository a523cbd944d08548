"""Reported log-probabilities against mlx-lm's own vectors."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from support.engines import GREEDY, Player, alone, sequence

from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.decode.scoring import ScoringEngine
from mlx_server.workers.engine.decode.sequential import SequentialEngine
from mlx_server.workers.engine.engine import Engine
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.sampling.logprobs import report
from mlx_server.workers.engine.sequence import Echoed, Token
from mlx_server.workers.engine.side_by_side import SideBySide

PROMPT = [5 + i % 90 for i in range(300)]


def test_report_is_sorted_and_has_the_chosen_tokens_own_value() -> None:
    logprobs = mx.array([[-3.0, -1.0, -2.0, -mx.inf], [-0.5, -4.0, -0.25, -9.0]])
    first, second = report(logprobs, [3, 0], 3)
    assert first == (-mx.inf, ((1, -1.0), (2, -2.0), (0, -3.0)))
    assert second == (-0.5, ((2, -0.25), (0, -0.5), (1, -4.0)))


def test_report_without_alternatives_and_with_more_than_there_are() -> None:
    logprobs = mx.array([[-1.0, -2.0]])
    assert report(logprobs, [1], 0) == [(-2.0, ())]
    assert report(logprobs, [1], 20) == [(-2.0, ((0, -1.0), (1, -2.0)))]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_report_is_in_float32_whatever_the_model_computes_in(dtype: mx.Dtype) -> None:
    [(value, top)] = report(mx.array([[-1.0, -2.0]], dtype), [0], 1)
    assert (value, top) == (-1.0, ((0, -1.0),))


def _scored(model: Any, engine: Engine) -> Engine:
    return SideBySide(engine, ScoringEngine(model, engine))


def _batch(model: Any) -> Engine:
    return BatchEngine(model, set(), rows=4, joint_prefill=True, prefill_step_size=64)


def _sequential(model: Any) -> Engine:
    return SequentialEngine(model, set(), prefill_step_size=64)


@pytest.mark.model
@pytest.mark.parametrize("make", [_batch, _sequential])
def test_only_who_asks_gets_reports_and_as_many_as_asked(llama: Any, make: Callable[[Any], Engine]) -> None:
    player = Player(make(llama))
    wanted = {1: 3, 2: 0, 3: None, 4: 1}
    for number, most in wanted.items():
        one = sequence(number, PROMPT[: 10 * number], 5, GREEDY)
        one.logprobs = most
        player.add(one)
    tokens: list[Token] = []
    while player.engine.busy:
        tokens += [item for item in player.step() if isinstance(item, Token)]
    for token in tokens:
        most = wanted[token.key[0]]
        assert (token.logprob is None) == (most is None)
        assert len(token.top) == (most or 0)
        if most:
            assert token.top[0] == (token.token, token.logprob), "greedy takes the most probable"
    expected = [
        float(logprobs[token].item()) for token, logprobs in generate_step(mx.array(PROMPT[:10]), llama, max_tokens=5)
    ]
    assert [t.logprob for t in tokens if t.key[0] == 1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.model
def test_an_echoed_prompt_has_the_log_probabilities_of_its_tokens(llama: Any) -> None:
    one = sequence(1, PROMPT, 3, GREEDY)
    one.logprobs, one.echo = 2, "text"
    engine = _scored(llama, _batch(llama))
    engine.add(one)
    engine.add(sequence(2, [5, 6], 30, GREEDY))
    produced = []
    while engine.busy:
        produced += engine.step()
    [echoed] = [item for item in produced if isinstance(item, Echoed)]
    logits = llama(mx.array([PROMPT]))[0]
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    expected = [float(logprobs[i, token].item()) for i, token in enumerate(PROMPT[1:])]
    assert [value for value, _ in echoed.reports] == pytest.approx(expected, abs=1e-3)
    assert all(len(top) == 2 for _, top in echoed.reports)
    tokens = [item for item in produced if isinstance(item, Token) and item.key == one.key]
    assert produced.index(echoed) < produced.index(tokens[0])
    assert (len(tokens), echoed.finish) == (3, None)


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "mamba"])
def test_an_echoed_prompt_is_read_once(load_tiny: Callable[[str], Any], architecture: str) -> None:
    model, prefixes = load_tiny(architecture), PrefixStore(64 << 20, checkpoints=True)
    read: list[int] = []

    class Counting:
        """The model, and how many tokens it is given."""

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def __call__(self, tokens: mx.array, **more: Any) -> mx.array:
            read.append(tokens.size)
            logits: mx.array = model(tokens, **more)
            return logits

    counting = Counting()
    plain = BatchEngine(counting, set(), rows=4, joint_prefill=False, prefill_step_size=16, prefixes=prefixes)
    engine = SideBySide(plain, ScoringEngine(counting, plain, prefixes))
    one = sequence(1, list(range(4, 84)), 5)
    one.logprobs, one.echo = 0, "text"
    player = Player(engine)
    player.add(one)
    player.run()
    assert one.emitted == alone(model, one.prompt, 5).tokens
    assert (sum(read), one.cached_tokens) == (79 + 5, 0)


@pytest.mark.model
@pytest.mark.parametrize("logprobs", [None, 0])
def test_an_echo_alone_ends_the_sequence(llama: Any, logprobs: int | None) -> None:
    one = sequence(1, [5, 6, 7], 0, GREEDY)
    one.logprobs, one.echo = logprobs, "text"
    engine = _scored(llama, _batch(llama))
    engine.add(one)
    [echoed] = engine.step()
    assert isinstance(echoed, Echoed)
    assert (len(echoed.reports), echoed.finish) == (0 if logprobs is None else 2, "length")
    assert not engine.busy


@pytest.mark.model
def test_an_echo_can_be_dropped_at_any_time(llama: Any) -> None:
    for steps in range(4):
        one = sequence(1, PROMPT, 3, GREEDY)
        one.logprobs, one.echo = 0, "text"
        engine = _scored(llama, _batch(llama))
        engine.add(one)
        for _ in range(steps):
            engine.step()
        engine.remove(one.key)
        assert not engine.busy
