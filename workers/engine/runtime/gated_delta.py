"""The gated delta rule over a prompt, many tokens at a time.

Off Metal, mlx-lm 0.32 computes the recurrence of Qwen3-Next, Qwen3.5 and their like one token after the other, some ten
operations for each. Here the tokens of a chunk are computed together, as matrices, with the same result: what each adds
to the state follows from what the tokens before it in its chunk add, which is a triangular system of equations (Yang et
al., "Gated Delta Networks", 2024, section 3.3).
"""

from __future__ import annotations

import mlx.core as mx
from mlx_lm.models import gated_delta

CHUNK = 16
"""Tokens. More take more numbers for each, fewer more operations."""

LEAST_DECAY = 1e-10
"""What is kept of a state in a step, at least: sums of its logarithm stay exact."""

library_ops = gated_delta.gated_delta_ops


def quicken() -> None:
    """Take the library's place in this process. Idempotent. Where it has a kernel, on Metal, it calls neither."""
    gated_delta.gated_delta_ops = by_chunks


def by_chunks(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    g: mx.array,
    beta: mx.array,
    state: mx.array | None = None,
    mask: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """`gated_delta_ops`: q and k are [batch, tokens, fewer heads, key size], v is [batch, tokens, heads, value size], g
    and beta are [batch, tokens, heads], a state is [batch, heads, value size, key size], and a bool mask
    [batch, tokens] says what counts. Returns [batch, tokens, heads, value size] in q's dtype, and the state after the
    last token."""
    (batch, tokens, heads, size), dtype = v.shape, q.dtype
    if tokens < CHUNK or g.ndim != 3:
        read: tuple[mx.array, mx.array] = library_ops(q, k, v, g, beta, state, mask)
        return read
    if state is None:
        state = mx.zeros((batch, heads, size, k.shape[-1]), mx.float32)
    if mask is not None:
        g, beta = (mx.where(mask[..., None], a, rest) for a, rest in ((g, 1), (beta, 0)))
    q, k = (mx.repeat(a, heads // a.shape[2], axis=2) for a in (q, k))
    q, k, v = (in_chunks(a.astype(mx.float32)) for a in (q, k, v))
    beta, log = (in_chunks(a.astype(mx.float32)[..., None]) for a in (beta, mx.log(mx.maximum(g, LEAST_DECAY))))

    # All chunks at once: [batch, heads, chunks, CHUNK, ...]. `kept[t, s]` is what is left at t of what s added.
    since = mx.cumsum(log, axis=-2)
    kept = mx.tril(mx.exp(mx.minimum(since - since.swapaxes(-1, -2), 0)))
    whole = mx.exp(since)
    solved = inverse(mx.tril(beta * kept * (k @ k.swapaxes(-1, -2)), -1))
    added, taken = solved @ (beta * v), solved @ (beta * whole * k)
    seen = kept * (q @ k.swapaxes(-1, -2))
    asked = whole * q
    left = kept[..., -1, :, None] * k

    # One chunk after the other.
    outputs = []
    for n in range(v.shape[2]):
        before = state.swapaxes(-1, -2)
        own = added[:, :, n] - taken[:, :, n] @ before
        outputs.append(asked[:, :, n] @ before + seen[:, :, n] @ own)
        state = whole[:, :, n, -1:] * state + own.swapaxes(-1, -2) @ left[:, :, n]
    y = mx.stack(outputs, axis=2).reshape(batch, heads, -1, size)[:, :, :tokens]
    return y.swapaxes(1, 2).astype(dtype), state


def in_chunks(a: mx.array) -> mx.array:
    """[batch, tokens, heads, n] as [batch, heads, chunks, CHUNK, n] of the same dtype, with zeros after the last
    token."""
    batch, tokens, heads, size = a.shape
    padded = mx.pad(a, [(0, 0), (0, -tokens % CHUNK), (0, 0), (0, 0)])
    return padded.swapaxes(1, 2).reshape(batch, heads, -1, CHUNK, size)


def inverse(lower: mx.array) -> mx.array:
    """The inverse of the identity plus `lower`, a strictly lower triangular matrix float32 [..., CHUNK, CHUNK], whose
    power CHUNK is zero."""
    power, found = -lower, mx.eye(CHUNK) - lower
    for _ in range(CHUNK.bit_length() - 2):
        power = power @ power
        found = found + found @ power
    return found
