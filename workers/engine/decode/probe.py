"""Whether a model computes the same in a batch as alone: probed when it is loaded, not looked up by its name.

Mergeable caches are necessary and not sufficient: some architectures raise in a batch, some are silently wrong when
prompts of different lengths are prefilled together.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.generation import Limits, Sampling
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch
from mlx_server.workers.engine.kvcache.layers import merged
from mlx_server.workers.engine.kvcache.quantised import QuantisedKVCache
from mlx_server.workers.engine.passes.prompts import read_together
from mlx_server.workers.engine.runtime.kept_trials import KeptTrials
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError

log = logging.getLogger(__name__)

TOKENS = 5
PROMPT_LENGTHS = (11, 3, 5)
"""Three rows if possible, unlike the usual numbers of heads, which would hide a wrong broadcast."""

TOLERANCE = {mx.float32: 0.02}
LOW_PRECISION_TOLERANCE = 0.25
"""How far a log-probability may be off, in nats: rounding moves it, a wrong mask or state moves it by far more. In KV
states of few bits, a number that rounds the other way is off by a whole step."""


class Batching(Enum):
    """What may be computed for several sequences together."""

    JOINT = "batched, prompts prefilled together"
    SINGLE_PREFILL = "batched, prompts prefilled one at a time"
    NONE = "one request at a time"


class NoNumbersError(ModelLoadError):
    """Raised when a model makes no probabilities of a prompt: no answer of it would be one."""

    def __init__(self) -> None:
        super().__init__(
            "what the model computes is no number (NaN): its weights are damaged, or it leaves the range of their type."
            " Download it again, take a version of it in another type (bfloat16 for float16), or on a CPU give"
            " --cpu-dtype float32"
        )


@dataclass(frozen=True)
class Trace:
    """One sequence's greedy tokens, and for each the log-probabilities [V] in nats."""

    tokens: list[int]
    logprobs: list[mx.array]


def batching_of(model: Any, rows: int, vocab_size: int, kept: KeptTrials) -> tuple[Batching, str]:
    """What `probe` says, which is not asked again of a model that it found nothing wrong with. Raises
    ModelLoadError. Engine thread only."""
    trial = f"batching of {min(rows, len(PROMPT_LENGTHS))} rows"
    if kept.get(trial, Batching) is Batching.JOINT:
        return Batching.JOINT, ""
    batching, reason = probe(model, rows, vocab_size)
    mx.clear_cache()  # or what it took would stay beside all that is yet to be loaded
    if batching is Batching.JOINT:
        kept.put(trial, batching)
    return batching, reason


def probe(model: Any, rows: int, vocab_size: int) -> tuple[Batching, str]:
    """The most batching that a model allows with `rows` rows, and why not more (empty if nothing is wrong).

    This also warms up the model. Engine thread only. Raises ModelLoadError for one that computes no numbers.
    """
    prompts = [
        [(7 * i + 3 * k) % min(97, vocab_size - 1) + 1 for i in range(n)] for k, n in enumerate(PROMPT_LENGTHS[:rows])
    ]
    alone = [trace_alone(model, prompt) for prompt in prompts]
    if any(mx.isnan(logprobs).any() for trace in alone for logprobs in trace.logprobs):
        raise NoNumbersError
    if not all(hasattr(cache, "merge") for cache in make_prompt_cache(model)):
        return Batching.NONE, "its cache can't be merged into a batch's"
    most, reason = tolerance(model), ""
    for batching, together in ((Batching.JOINT, len(prompts)), (Batching.SINGLE_PREFILL, 1)):
        try:
            traces = trace_batched(model, prompts, together)
        except Exception as error:  # noqa: BLE001 - a model that can't be batched may raise anything
            reason = f"{type(error).__name__} in a batch: {error}"
            continue
        distance = max(map(difference, alone, traces))
        if distance <= most:
            return batching, reason
        reason = f"its log-probabilities differ by {distance:.2g} in a batch"
    return Batching.NONE, reason


def tolerance(model: Any) -> float:
    """How far a model's log-probabilities may be off in a trial, in nats."""
    if any(isinstance(layer, QuantisedKVCache) for layer in make_prompt_cache(model)):
        return LOW_PRECISION_TOLERANCE
    return TOLERANCE.get(model(mx.array([[1]])).dtype, LOW_PRECISION_TOLERANCE)


def trace_alone(model: Any, prompt: list[int]) -> Trace:
    """The unbatched reference for one prompt."""
    steps = list(generate_step(mx.array(prompt), model, max_tokens=TOKENS))
    return Trace([int(token) for token, _ in steps], [log_softmax(logprobs) for _, logprobs in steps])


def trace_batched(model: Any, prompts: list[list[int]], together: int) -> list[Trace]:
    """Several prompts in one batch, as they are served: so many are read `together`."""
    rows, traces = DecodeBatch(model, set()), [Trace([], []) for _ in prompts]
    sequences = [
        Sequence((-1, number), prompt, TOKENS, Sampling(temperature=0.0), Limits(ignore_eos=True), logprobs=0)
        for number, prompt in enumerate(prompts)
    ]
    for start in range(0, len(sequences), together):
        chosen = sequences[start : start + together]
        caches = [make_prompt_cache(model) for _ in chosen]
        cache = merged(caches) if len(chosen) > 1 else caches[0]
        read_together(model, [one.prompt[:-1] for one in chosen], cache)
        rows.join(chosen, cache, {})
    while len(traces[-1].tokens) < TOKENS:
        for drawn in rows.step():
            assert drawn.logprobs is not None
            traces[drawn.key[1]].tokens.append(drawn.token)
            traces[drawn.key[1]].logprobs.append(drawn.logprobs[0])
    return traces


def difference(alone: Trace, batched: Trace) -> float:
    """The largest difference of likely tokens' log-probabilities in nats, over the steps with equal tokens before
    them."""
    worst = 0.0
    for i, expected in enumerate(alone.logprobs):
        worst = max(worst, distance(expected, batched.logprobs[i]))
        if alone.tokens[i] != batched.tokens[i]:
            break
    return worst


def distance(expected: mx.array, found: mx.array) -> float:
    """How far the log-probabilities [V] of likely tokens are off, in nats: infinitely far where they are no numbers."""
    likely = expected > mx.max(expected) - 5
    off = float(mx.where(likely, mx.abs(expected - found), 0).max().item())  # type: ignore[arg-type]
    return math.inf if math.isnan(off) else off
