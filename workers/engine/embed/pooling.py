"""From a vector for each token to one for the text. Sentence-transformers' modes, by their names there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

Mode = Callable[[mx.array, mx.array], mx.array]
"""Token vectors [B, L, D] and their mask [B, L] (1 for a token, then 0 for padding) to vectors [B, D]."""


def first(hidden: mx.array, mask: mx.array) -> mx.array:
    """The first token's vector: hidden states [B, L, D] to [B, D]. The mask is not used."""
    return hidden[:, 0]


def last(hidden: mx.array, mask: mx.array) -> mx.array:
    """The last token's vector: hidden states [B, L, D] and mask [B, L] to [B, D]."""
    return hidden[mx.arange(hidden.shape[0]), mask.sum(axis=1).astype(mx.int32) - 1]


def mean(hidden: mx.array, mask: mx.array) -> mx.array:
    """The mean of all tokens: hidden states [B, L, D] and mask [B, L] to [B, D]."""
    return total(hidden, mask) / mask.sum(axis=1, keepdims=True)


def mean_sqrt_len(hidden: mx.array, mask: mx.array) -> mx.array:
    """The sum of all tokens over the square root of their number: hidden states [B, L, D] and mask [B, L] to [B, D]."""
    return total(hidden, mask) / mx.sqrt(mask.sum(axis=1, keepdims=True))


def weighted_mean(hidden: mx.array, mask: mx.array) -> mx.array:
    """The mean of all tokens, the n-th with weight n: hidden states [B, L, D] and mask [B, L] to [B, D]."""
    weights = mask * mx.arange(1, mask.shape[1] + 1)
    return total(hidden, weights) / weights.sum(axis=1, keepdims=True)


def maximum(hidden: mx.array, mask: mx.array) -> mx.array:
    """The largest value of each dimension: hidden states [B, L, D] and mask [B, L] to [B, D]."""
    return mx.where(mask[..., None] == 0, -mx.inf, hidden).max(axis=1)


def total(hidden: mx.array, weights: mx.array) -> mx.array:
    """The sum over the tokens of hidden states [B, L, D] times weights [B, L]: [B, D]. Padding (weight 0) may hold
    anything."""
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
    """Hidden states [B, L, D] of any float dtype and their mask [B, L] to vectors float32 [B, D]; with several modes
    [B, modes * D], one mode's values after the other's."""
    hidden, mask = hidden.astype(mx.float32), mask.astype(mx.float32)
    return mx.concatenate([MODES[mode](hidden, mask) for mode in modes], axis=-1)


def l2_normalised(vectors: mx.array) -> mx.array:
    """Vectors [..., D] scaled to length 1, same dtype; a zero vector stays zero."""
    return vectors / mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
