"""Reports on log-probabilities, from vectors that the engine computes anyway."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

Report = tuple[float, tuple[tuple[int, float], ...]]
"""The chosen token's log-probability, and the most probable tokens with theirs, best first. In nats."""


def log_softmax(logits: mx.array) -> mx.array:
    """`logits` [..., V] of any dtype as log-probabilities in nats, of the same shape, in float32.

    In half precision the sum alone is off by up to 0.06 for usual logits, and all probabilities add up to less than a
    `top_p`.
    """
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def report(logprobs: mx.array, chosen: list[int], most: int) -> list[Report]:
    """A report on each of R chosen token ids, by its row of log-probabilities [R, V] in nats, with `most` alternatives.
    Computed in float32, with one evaluation for all rows."""
    logprobs = logprobs.astype(mx.float32)
    own: mx.array = mx.take_along_axis(logprobs, mx.array(chosen)[:, None], axis=-1)[:, 0]
    most = min(most, logprobs.shape[-1])
    if not most:
        return [(value, ()) for value in numbers(own)]
    ids = mx.argpartition(-logprobs, kth=most - 1, axis=-1)[:, :most]
    values = mx.take_along_axis(logprobs, ids, axis=-1)
    order = mx.argsort(-values, axis=-1)
    ids, values = mx.take_along_axis(ids, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
    mx.eval(own, ids, values)
    rows = zip(numbers(own), numbers(ids), numbers(values), strict=True)
    return [(value, tuple(zip(row_ids, row_values, strict=True))) for value, row_ids, row_values in rows]


def ranks(logits: mx.array, chosen: list[int]) -> list[int]:
    """The rank of each of R chosen token ids in its row of logits [R, V], 1 for the best: how many tokens are at least
    as probable."""
    own = mx.take_along_axis(logits, mx.array(chosen)[:, None], axis=-1)
    return list(numbers((logits >= own).sum(axis=-1)))


def numbers(array: mx.array) -> Any:
    """An array [...] of any shape and dtype, evaluated, as nested lists of Python numbers."""
    return array.tolist()
