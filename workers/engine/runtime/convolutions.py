"""Convolutions over one axis as products of matrices where MLX computes them one number at a time.

MLX 0.32 does so on CPUs for those with gaps between their taps, and for transposed ones: a second of speech took 15
seconds, and takes one and a half this way. The functions have the signatures and the results of those whose place they
take, and leave to the library whatever else there is, also what is not float32.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

library_conv1d = mx.conv1d
library_conv_transpose1d = mx.conv_transpose1d


def quicken() -> None:
    """Take MLX's place in this process. Idempotent."""
    mx.conv1d = conv1d
    mx.conv_transpose1d = conv_transpose1d


def conv1d(
    x: mx.array,
    weight: mx.array,
    /,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    stream: Any = None,
) -> mx.array:
    """`mx.conv1d`: x [batch, length, inputs] and a weight [outputs, width, inputs] to [batch, shorter length, outputs],
    with a gap of `dilation` - 1 between its taps."""
    ours = dilation > 1 and (stride, groups) == (1, 1) and x.dtype == weight.dtype == mx.float32
    if not ours or stream is not None:
        return library_conv1d(x, weight, stride, padding, dilation, groups, stream=stream)
    width = weight.shape[1]
    x = mx.pad(x, [(0, 0), (padding, padding), (0, 0)])
    length = x.shape[1] - dilation * (width - 1)
    if length < 1:
        return library_conv1d(x, weight, stride, 0, dilation, groups)
    taps = (x[:, tap * dilation : tap * dilation + length] @ weight[:, tap].T for tap in range(width))
    return sum(taps, start=mx.zeros((), x.dtype))


def conv_transpose1d(
    x: mx.array,
    weight: mx.array,
    /,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
    groups: int = 1,
    *,
    stream: Any = None,
) -> mx.array:
    """`mx.conv_transpose1d`: x [batch, length, inputs] and a weight [outputs, width, inputs] to [batch, longer length,
    outputs]: each step of x adds `width` outputs, `stride` after those of the step before."""
    outputs, width, inputs = weight.shape
    ours = width % stride == 0 and (dilation, output_padding, groups) == (1, 0, 1)
    ours = ours and x.dtype == weight.dtype == mx.float32
    if not ours or stream is not None:
        return library_conv_transpose1d(x, weight, stride, padding, dilation, output_padding, groups, stream=stream)
    batch, length, _ = x.shape
    turns = width // stride
    added = (x @ weight.transpose(2, 1, 0).reshape(inputs, -1)).reshape(batch, length, turns, stride * outputs)
    later = (mx.pad(added[:, :, turn], [(0, 0), (turn, turns - 1 - turn), (0, 0)]) for turn in range(turns))
    whole_length = (length + turns - 1) * stride
    summed = sum(later, start=mx.zeros((), x.dtype)).reshape(batch, whole_length, outputs)
    return summed[:, padding : whole_length - padding]
