"""From a vector for each token to one for the text. Sentence-transformers' modes, by their names there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

Mode = Callable[[mx.array, mx.array], mx.array]
"""Token vectors [B, L, D] and their mask [B, L] (1 for a token, then 0 for padding) to vectors [B, D]."""


def first(hidden: mx.array, mask: mx.array) -> mx.array:
    """The first token's vector."""
    return hidden[:, 0]


def last(hidden: mx.array, mask: mx.array) -> mx.array:
    """The last token's vector."""
    return hidden[mx.arange(hidden.shape[0]), mask.sum(axis=1).astype(mx.int32) - 1]


def mean(hidden: mx.array, mask: mx.array) -> mx.array:
    """The mean of all tokens."""
    return total(hidden, mask) / mask.sum(axis=1, keepdims=True)


def mean_sqrt_len(hidden: mx.array, mask: mx.array) -> mx.array:
    """The sum of all tokens over the square root of their number."""
    return total(hidden, mask) / mx.sqrt(mask.sum(axis=1, keepdims=True))


def weighted_mean(hidden: mx.array, mask: mx.array) -> mx.array:
    """The mean of all tokens, the n-th with weight n."""
    weights = mask * mx.arange(1, mask.shape[1] + 1)
    return total(hidden, weights) / weights.sum(axis=1, keepdims=True)


def maximum(hidden: mx.array, mask: mx.array) -> mx.array:
    """The largest value of each dimension."""
    return mx.where(mask[..., None] == 0, -mx.inf, hidden).max(axis=1)


def total(hidden: mx.array, weights: mx.array) -> mx.array:
    """The weighted sum over the tokens; padding, which may hold anything, does not count."""
    return mx.where(weights[..., None] == 0, 0, hidden * weights[..., None]).sum(axis=1)


MODES: dict[str, Mode] = {
    "cls": first,
    "lasttoken": last,
    "mean": mean,
    "max": maximum,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
}


def pool(hidden: mx.array, mask: mx.array, modes: Sequence[str]) -> mx.array:
    """One vector for each row, float32; several modes stand one after the other in it."""
    hidden, mask = hidden.astype(mx.float32), mask.astype(mx.float32)
    return mx.concatenate([MODES[mode](hidden, mask) for mode in modes], axis=-1)


def l2_normalised(vectors: mx.array) -> mx.array:
    """The same directions with length 1."""
    return vectors / mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
