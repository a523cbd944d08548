"""The exact GELU, fast where MLX's is slow.

MLX 0.32 computes erf and exp one number at a time on x86 CPUs, which takes longer there than a BERT's matrix products.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_server.workers.engine.runtime import platform

# erf(x) = x P(x²) / Q(x²) on [-4, 4]: the coefficients are Eigen's (generic_fast_erf_float), highest power first.
P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


class RationalGELU(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """x Φ(x) with float32's accuracy, by products and one quotient."""

    def __call__(self, x: mx.array) -> mx.array:
        """GELU of each element of `x` [...], a float array."""
        z = mx.clip(x * math.sqrt(0.5), -4, 4)
        square = z * z
        return 0.5 * x * (1 + z * polynomial(P, square) / polynomial(Q, square))


def polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    """The polynomial's value at each element of `x` [...], by Horner's rule; the highest power's coefficient comes
    first."""
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def with_exact_gelu(model: Any) -> Any:
    """The model with the exact GELU for all of its GELUs: one of mlx-vlm's classes has the approximation by tanh."""
    gelu = RationalGELU() if platform.on_cpu() else nn.GELU()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.GELU)]
    model.update_modules(tree_unflatten([(name, gelu) for name in names]))
    return model
