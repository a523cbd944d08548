"""What sequences say, with the likely tokens: mlx-vlm's own unbatched loop, to compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_vlm.generate.ar import generate_step

from mlx_server.workers.engine.decode.probe import NoNumbersError
from mlx_server.workers.engine.decode.replayable import describe
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import ModelLoadError

TOKENS = 5
REPORTED = 5


@dataclass(frozen=True)
class Trace:
    """One sequence's greedy tokens, each with log-probabilities of the likely tokens in its place."""

    tokens: list[int]
    likely: list[dict[int, float]]


def trace_alone(model: Any, sequence: Sequence) -> Trace:
    """The unbatched reference. Raises ModelLoadError."""
    ids = mx.array([sequence.prompt])
    arrays = dict(sequence.media.arrays) if sequence.media is not None else {}
    pixels = arrays.pop("pixel_values", None)
    trace = Trace([], [])
    try:
        steps = generate_step(
            ids, model, pixels, mx.ones_like(ids), max_tokens=TOKENS, temperature=0.0, top_p=1.0, top_k=0, **arrays
        )
        for token, rounded in steps:
            logprobs = log_softmax(rounded)
            best = mx.argpartition(-logprobs, kth=REPORTED)[:REPORTED]
            trace.tokens.append(int(token))
            trace.likely.append(dict(zip(as_list(best), as_list(logprobs[best]), strict=True)))
    except Exception as error:
        raise ModelLoadError(f"this model fails: {describe(error)}") from error
    if any(math.isnan(logprob) for likely in trace.likely for logprob in likely.values()):
        raise NoNumbersError
    return trace


def difference(alone: Trace, other: Trace) -> float:
    """Largest distance of likely tokens' log-probabilities, over the steps with the same tokens before them."""
    worst = 0.0
    for i, expected in enumerate(alone.likely):
        found = other.likely[i]
        least = min(found.values())
        for token, logprob in expected.items():
            # One that is not among the others' likely ones has at most what the least of those has.
            distance = abs(logprob - found[token]) if token in found else max(0.0, logprob - least)
            worst = max(worst, math.inf if math.isnan(distance) else distance)
        if alone.tokens[i] != other.tokens[i]:
            break
    return worst


def as_list(array: mx.array) -> list[Any]:
    """The numbers of an array [K], evaluated, as a list."""
    return list(array.tolist())  # type: ignore[arg-type]
