"""Which quantised weights stay packed on a CPU: those for which there is a kernel that is faster than float32."""

from __future__ import annotations

import importlib.util
from time import perf_counter
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_server.workers.extras import install_line

SIDE = 4096
"""Of the weights that are tried: as float32 they are more than a processor's cache holds, as a model's are."""

ROWS = (1, 8)
"""How many are multiplied in a trial: one for each kernel, which is compiled on this occasion."""

TRIES = 5


def kernels_are_installed() -> bool:
    """Whether there is what compiles kernels. Nothing is imported."""
    return importlib.util.find_spec("numba") is not None


def missing_kernels() -> str:
    """What to say where there is not."""
    return f"quantised weights can stay packed on a CPU, and are faster so, with: {install_line('cpu')}"


def packed_layers(model: nn.Module, *, tried: bool) -> list[tuple[str, Any]]:
    """By name, layers that take the place of a model's and keep their weights packed. `tried`: only where that is
    faster here. Raises ImportError without numba."""
    from mlx_server.workers.engine.runtime.packed_layers import fits, packed_layer

    fitting = [(name, layer) for name, layer in model.named_modules() if fits(layer)]
    forms = {form_of(layer) for _, layer in fitting}
    # A trial compiles, which no request should wait for: there is one in any case.
    chosen = {form for form in forms if is_faster(*form) or not tried}
    return [(name, packed_layer(layer, name)) for name, layer in fitting if form_of(layer) in chosen]


def form_of(layer: Any) -> tuple[int, int, str]:
    """How a layer's weights are packed: the size of a group, bits, and MLX's name of the mode."""
    return layer.group_size, layer.bits, layer.mode


def is_faster(group_size: int, bits: int, mode: str) -> bool:
    """Whether weights packed so are multiplied faster than the same in float32, tried with one row and with several."""
    from mlx_server.workers.engine.runtime.packed_layers import packed_layer

    packed = packed_layer(nn.QuantizedLinear(SIDE, SIDE, False, group_size, bits, mode))
    plain = nn.Linear(SIDE, SIDE, bias=False)
    for layer in (packed, plain):
        layer.update(tree_map(mx.zeros_like, layer.parameters()))
        mx.eval(layer.parameters())
    return all(seconds(packed, rows) < seconds(plain, rows) for rows in ROWS)


def seconds(layer: Any, rows: int) -> float:
    """Of a product with so many rows: the fastest of a few, after one that may have something compiled."""
    x = mx.ones((rows, SIDE))
    taken = []
    for _ in range(1 + TRIES):
        began = perf_counter()
        mx.eval(layer(x))
        taken.append(perf_counter() - began)
    return min(taken[1:])
