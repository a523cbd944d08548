"""Whether a chunk of a prompt and the next tokens of rows are read in one pass: tried when a model is loaded, and only
where it takes less time than two."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.decode.probe import distance, tolerance
from mlx_server.workers.engine.kvcache.holes import is_cuttable
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.passes.inner import inner_part
from mlx_server.workers.engine.passes.joined import Call, JoinedModel, suited
from mlx_server.workers.engine.passes.prompts import for_its_states
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials
from mlx_server.workers.engine.sampling.logprobs import log_softmax

TRIAL = "a prompt's chunk along with rows"

LENGTHS = (11, 3, 5)
"""Tokens of the rows, unlike the usual numbers of heads, which would hide a wrong broadcast."""

CHUNKS = 7, 2
"""Tokens of a prompt that are read along, one chunk after the other."""

ROWS = 4
TOKENS = suited(48, ROWS)
"""Of the chunk that is timed, beside ROWS rows."""

PAIRS = 5
"""How often both ways are timed in one load. Where the pairs don't agree, the next load times as many more: on a
machine that others use, too, anything is slow now and then."""

ENOUGH = 3 * PAIRS
"""Of so many pairs the middle one decides, whether they agree or not."""

log = logging.getLogger(__name__)


def may_join(model: Any, vocab_size: int, kept: KeptTrials) -> bool:
    """Whether chunks go along with rows, which is measured of a model that can read them so until it is clear. Engine
    thread only."""
    ratios, reason = kept.get(TRIAL, list[float]) or [], None
    if not are_enough(ratios):
        reason = objection(model, vocab_size)
        if reason is None:
            ratios = [*ratios, *costs(model, vocab_size)]
            kept.put(TRIAL, ratios)
        mx.clear_cache()
    if reason is None and (ratio := statistics.median(ratios)) >= 1:
        reason = f"one pass takes {ratio:.2f} times as long as two"
    if reason is not None:
        log.info("prompts are not read along with running rows: %s", reason)
    return reason is None


def objection(model: Any, vocab_size: int) -> str | None:
    """Why a model can't read a chunk along with rows; None if it can. Engine thread only."""
    if not is_cuttable(make_prompt_cache(model)) or inner_part(model) is None:
        return "its cache or its parts are of another kind"
    try:
        worst = difference(model, vocab_size)
    except Exception as error:  # noqa: BLE001 - a model that can't do it may raise anything
        return f"{type(error).__name__}: {error}"
    return None if worst <= tolerance(model) else f"its log-probabilities differ by {worst:.2g}"


def difference(model: Any, vocab_size: int) -> float:
    """How far the log-probabilities of likely tokens are off, in nats, in rows that take chunks along and in the prompt
    that these are of."""
    rows = [tokens(length, number, vocab_size) for number, length in enumerate(LENGTHS)]
    prompt = tokens(sum(CHUNKS), len(rows), vocab_size)
    joined, cache, batch = JoinedModel(model), make_prompt_cache(model), merged([read(model, row) for row in rows])
    worst, start = 0.0, 0
    for number, length in enumerate(CHUNKS):
        latest = tokens(len(rows), number + 1, vocab_size)
        joined.along(Call(mx.array([prompt[start : start + length]]), cache))
        found = joined(mx.array(latest)[:, None], batch)[:, -1]
        rows, start = [[*row, token] for row, token in zip(rows, latest, strict=True)], start + length
        for row, logits in zip(rows, found, strict=True):
            worst = max(worst, distance(last(model, row), log_softmax(logits)))
    after = model(mx.array([prompt[:1]]), cache=cache)[0, -1]
    return max(worst, distance(last(model, [*prompt, prompt[0]]), log_softmax(after)))


def are_enough(ratios: list[float]) -> bool:
    """Whether pairs with these ratios show which way is faster: all of them the same one, or there are many."""
    return len(ratios) >= ENOUGH or len({ratio < 1 for ratio in ratios}) == 1


def costs(model: Any, vocab_size: int) -> list[float]:
    """The time of one pass over a chunk and rows, as a share of that of two: of each pair."""
    joined, cache = JoinedModel(model), make_prompt_cache(model)
    batch = merged([read(model, tokens(LENGTHS[0], number, vocab_size)) for number in range(ROWS)])
    chunk, latest = mx.array([tokens(TOKENS, 0, vocab_size)]), mx.array([[1]] * ROWS)

    def one() -> None:
        joined.along(Call(chunk, cache))
        mx.eval(joined(latest, batch), [layer.state for layer in cache])

    def two() -> None:
        mx.eval(model(latest, cache=batch))
        with for_its_states(cache):
            model(chunk, cache=cache)
        mx.eval([layer.state for layer in cache])

    one()
    two()
    return [seconds(one) / seconds(two) for _ in range(PAIRS)]


def seconds(work: Callable[[], None]) -> float:
    """How long it takes: of a CPU's time what it uses itself, as others may use it meanwhile."""
    clock = time.process_time if platform.on_cpu() else time.perf_counter
    began = clock()
    work()
    return clock() - began


def tokens(count: int, number: int, vocab_size: int) -> list[int]:
    """Some token ids, others for each number."""
    return [(7 * i + 3 * number) % min(97, vocab_size - 1) + 1 for i in range(count)]


def read(model: Any, row: list[int]) -> list[Any]:
    """A cache of these tokens."""
    cache: list[Any] = make_prompt_cache(model)
    model(mx.array([row]), cache=cache)
    return cache


def last(model: Any, row: list[int]) -> mx.array:
    """Log-probabilities [V] after these tokens, in nats."""
    return log_softmax(model(mx.array([row]), cache=make_prompt_cache(model))[0, -1])
