"""Exponentials by numpy where MLX computes them one number at a time.

MLX 0.32 does so on x86 CPUs: 12 ns for each, where numpy, which uses the processor's vectors, takes 0.5. Attention over
2,000 tokens is mostly softmax there, and prompts are read in half the time without it. The functions have the
signatures and the results of those whose place they take. What is small, not float32, bound to a stream or being
traced is left to the library. No gradient passes through them: they are for inference.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""Numbers of any shape, [...]."""

LEAST = 1 << 12
"""Numbers, below which MLX computes them: to wait for it in the middle of a pass takes time, too."""

BLOCK = 1 << 19
"""Scores that are computed together: they stay in the processor's cache."""

LEAST_ROWS = 16
"""Queries that are, at least: a product of fewer reads all keys for little."""

SLOW = 4.0
"""MLX is slow where it takes so many times as long as numpy."""

HIDDEN = np.finfo(np.float32).min
"""A score that does not count; a row of nothing else stays finite."""

lazy: ContextVar[bool] = ContextVar("lazy", default=False)
"""Whether all is left to the library just now: it computes nothing that nobody asks for."""

library_exp = mx.exp
library_sigmoid = mx.sigmoid
library_tanh = mx.tanh
library_softmax = mx.softmax
library_logsumexp = mx.logsumexp
library_attention = mx.fast.scaled_dot_product_attention


def quicken() -> None:
    """Take MLX's place in this process, if it computes on a CPU on which it is slow. Idempotent."""
    if not is_slow():
        return
    mx.exp = elementwise(library_exp, np.exp)
    mx.sigmoid = elementwise(library_sigmoid, sigmoid)
    mx.tanh = elementwise(library_tanh, np.tanh)
    mx.softmax = softmax
    mx.logsumexp = logsumexp
    mx.fast.scaled_dot_product_attention = attention


def is_slow() -> bool:
    """Whether numpy is faster by far, tried."""
    numbers = np.linspace(-8, 0, 1 << 16, dtype=np.float32)
    array = mx.array(numbers)
    return fastest(lambda: mx.eval(library_exp(array))) > SLOW * fastest(lambda: np.exp(numbers))


def fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls."""
    seconds = []
    for _ in range(5):
        began = perf_counter()
        function()
        seconds.append(perf_counter() - began)
    return min(seconds)


def elementwise(library: Callable[..., mx.array], function: Callable[..., Floats]) -> Callable[..., mx.array]:
    """A function like `library` that has numpy compute float32 arrays [...], element by element; `function` writes into
    its `out`."""

    def quick(a: Any, /, *, stream: Any = None) -> mx.array:
        numbers = read(a) if stream is None else None
        if numbers is None:
            return library(a, stream=stream)
        with np.errstate(all="ignore"):
            return mx.array(function(numbers, out=numbers))

    return quick


def softmax(a: mx.array, /, axis: Any = None, *, precise: bool = False, stream: Any = None) -> mx.array:
    """`mx.softmax`: `a` [...] to an array of the same shape; numpy computes float32 over the last axis."""
    numbers = read(a) if stream is None and is_last(axis, a) else None
    if numbers is None:
        return library_softmax(a, axis, precise=precise, stream=stream)
    powers, sums = powers_of(numbers)
    powers /= sums
    return mx.array(powers)


def logsumexp(a: mx.array, /, axis: Any = None, keepdims: bool = False, *, stream: Any = None) -> mx.array:
    """`mx.logsumexp`: `a` [...] to an array without `axis`, or of length 1 there with `keepdims`; numpy computes
    float32 over the last axis."""
    numbers = read(a) if stream is None and is_last(axis, a) else None
    if numbers is None or not np.isfinite(greatest := numbers.max(-1, keepdims=True)).all():
        return library_logsumexp(a, axis, keepdims, stream=stream)
    _, sums = powers_of(numbers)
    result = greatest + np.log(sums)
    return mx.array(result if keepdims else result[..., 0])


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
    force_fused: bool = False,
    stream: Any = None,
) -> mx.array:
    """`mx.fast.scaled_dot_product_attention`: q is [batch, heads, queries, size], k and v are
    [batch, fewer heads, keys, size]; a mask is bool (True counts), is added, or is "causal". Returns
    [batch, heads, queries, size] in q's dtype; numpy computes float32."""
    queries, keys = q.shape[2], k.shape[2]
    ours = q.dtype == k.dtype == v.dtype == mx.float32 and q.size // q.shape[3] * keys >= LEAST
    ours = ours and sinks is None and stream is None and not force_fused and not lazy.get()
    outputs = None
    if ours and (not isinstance(mask, str) or (mask == "causal" and queries <= keys)):
        rows = max(LEAST_ROWS, BLOCK // (q.shape[0] * q.shape[1] * keys))
        outputs = attention_by_blocks(q * scale, k, v, mask, rows)
    if outputs is None:
        more = {"sinks": sinks, "force_fused": force_fused, "stream": stream}
        return library_attention(q, k, v, scale=scale, mask=mask, **more)
    return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=2)


def attention_by_blocks(
    q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None, rows: int
) -> list[mx.array] | None:
    """Attention of q [batch, heads, queries, size], scaled already, to k and v [batch, fewer heads, keys, size], all
    float32: for each block of `rows` queries an output [batch, heads, rows, size], from the keys that count for any of
    them. None while it is being traced."""
    batch, heads, queries, size = q.shape
    groups, keys = k.shape[1:3]
    hidden = numbers_of(mask.astype(masked_type(mask))) if isinstance(mask, mx.array) else mask
    if hidden is None and mask is not None:
        return None
    outputs = []
    for start in range(0, queries, rows):
        end = min(start + rows, queries)
        seen, part = seen_by(hidden, start, end, queries, keys)
        together = (batch, groups, heads // groups * (end - start))
        scores = numbers_of(q[:, :, start:end].reshape(*together, size) @ k[:, :, seen].swapaxes(-1, -2))
        if scores is None:
            return None
        hide(scores.reshape(batch, groups, heads // groups, end - start, -1), part)
        powers, sums = powers_of(scores)
        values = mx.array(powers) @ v[:, :, seen]
        outputs.append((values / mx.array(sums)).reshape(batch, heads, end - start, v.shape[-1]))
    return outputs


def masked_type(mask: mx.array) -> mx.Dtype:
    """The dtype that numpy reads a mask [..., queries, keys] in: bool, or float32 for one that is added to scores."""
    return mx.bool_ if mask.dtype == mx.bool_ else mx.float32


def seen_by(
    mask: NDArray[Any] | str | None, start: int, end: int, queries: int, keys: int
) -> tuple[slice, NDArray[Any] | str | None]:
    """For the queries from `start` to `end`: the one range of keys outside which none counts, and the part of the mask
    [..., queries, keys] (bool, float32 or "causal") for these queries and keys."""
    if mask is None:
        return slice(0, keys), None
    if isinstance(mask, str):
        return slice(0, keys - queries + end), mask
    part = np.broadcast_to(mask, (*mask.shape[:-2], queries, keys))[..., start:end, :]
    if part.dtype != bool or not part.any(-1).all():
        return slice(0, keys), part
    counts = np.flatnonzero(part.reshape(-1, keys).any(0))
    seen = slice(int(counts[0]), int(counts[-1]) + 1)
    return seen, part[..., seen]


def hide(scores: Floats, mask: NDArray[Any] | str | None) -> None:
    """Apply a mask to scores float32 [batch, groups, heads, queries, keys], in place. It is bool (True counts), added,
    or "causal", and can be broadcast to [batch, groups * heads, queries, keys]."""
    if mask is None:
        return
    if isinstance(mask, str):
        queries, keys = scores.shape[-2:]
        newest = scores[..., keys - queries :]
        np.copyto(newest, HIDDEN, where=~np.tri(queries, dtype=bool))
        return
    if mask.dtype == bool:
        np.copyto(scores, HIDDEN, where=grouped(~mask, scores.shape))
    else:
        scores += grouped(mask, scores.shape)


def grouped(mask: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A view of a mask that can be broadcast to [batch, groups * heads, queries, keys], in the `shape` of scores
    [batch, groups, heads, queries, keys]."""
    batch, groups, heads, queries, keys = shape
    return np.broadcast_to(mask, (batch, groups * heads, queries, keys)).reshape(shape)


def powers_of(numbers: Floats) -> tuple[Floats, Floats]:
    """exp(x - the row's maximum) of float32 [..., keys], in place, and its sums [..., 1]."""
    with np.errstate(all="ignore"):  # as MLX does
        numbers -= numbers.max(-1, keepdims=True)
        np.exp(numbers, out=numbers)
        return numbers, numbers.sum(-1, keepdims=True)


def sigmoid(numbers: Floats, out: Floats) -> Floats:
    """1 / (1 + exp(-x)) of each element of float32 [...], written into `out` of the same shape."""
    np.negative(numbers, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def read(a: Any) -> Floats | None:
    """An evaluated float32 copy of an array [...]; None for what is left to the library: another type, few numbers, one
    being traced."""
    ours = isinstance(a, mx.array) and a.dtype == mx.float32 and a.size >= LEAST and not lazy.get()
    return numbers_of(a) if ours else None


def numbers_of(a: mx.array) -> NDArray[Any] | None:
    """An evaluated copy of an array [...], same dtype, in C order; None while it is being traced."""
    try:
        return np.array(a, order="C")
    except ValueError:
        return None


def is_last(axis: Any, a: mx.array) -> bool:
    """Whether `axis` is the last axis of `a` [...]."""
    return axis in (-1, a.ndim - 1)
