"""What is computed as products of matrices is what MLX computes."""

from collections.abc import Callable

import mlx.core as mx
import pytest

from mlx_server.workers.engine.runtime import convolutions


def _same(ours: Callable[..., mx.array], library: Callable[..., mx.array], width: int, **how: int) -> bool:
    groups = how.get("groups", 1)
    x = mx.random.normal((2, 40, 8), key=mx.random.key(0))
    weight = mx.random.normal((6, width, 8 // groups), key=mx.random.key(1))
    one, other = ours(x, weight, **how), library(x, weight, **how)
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    return bool(mx.allclose(one, other, rtol=1e-4, atol=1e-4))


@pytest.mark.parametrize(
    ("width", "padding", "dilation", "stride", "groups"),
    [(3, 3, 3, 1, 1), (11, 25, 5, 1, 1), (3, 0, 2, 1, 1), (3, 2, 2, 2, 1), (3, 2, 2, 1, 2), (5, 2, 1, 1, 1)],
)
def test_convolutions_are_mlxs(width: int, padding: int, dilation: int, stride: int, groups: int) -> None:
    how = {"padding": padding, "dilation": dilation, "stride": stride, "groups": groups}
    assert _same(convolutions.conv1d, convolutions.library_conv1d, width, **how)


@pytest.mark.parametrize(
    ("width", "padding", "stride", "output_padding"),
    [(20, 5, 10, 0), (12, 3, 6, 0), (4, 0, 1, 0), (3, 1, 2, 1), (6, 0, 2, 0)],
)
def test_transposed_convolutions_are_mlxs(width: int, padding: int, stride: int, output_padding: int) -> None:
    how = {"padding": padding, "stride": stride, "output_padding": output_padding}
    assert _same(convolutions.conv_transpose1d, convolutions.library_conv_transpose1d, width, **how)


def test_convolution_that_is_wider_than_what_it_is_given_fails_as_mlxs_does() -> None:
    x, weight = mx.zeros((1, 4, 2)), mx.zeros((2, 3, 2))
    for function in (convolutions.conv1d, convolutions.library_conv1d):
        with pytest.raises(ValueError, match="conv"):
            mx.eval(function(x, weight, dilation=4))
