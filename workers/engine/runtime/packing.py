"""Which quantised weights stay packed on a CPU: those for which there is a kernel that is faster than float32."""

from __future__ import annotations

import importlib.util
from time import perf_counter
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_server.workers.extras import install_line

TRIED_BYTES = 64 << 20
"""Of the weights that are tried, as float32: more than a processor's cache holds, as a model's are."""

TRIED_LAYERS = 128
"""At most: so many small ones tell enough, and thousands would take a minute."""

ROWS = (1, 8)
"""How many are multiplied in a trial: one for each kernel, which is compiled on this occasion."""

TRIES = 5

WORTHWHILE = 0.8
"""The share of float32's time below which it pays: in a model, what is not multiplied waits for what is."""

Form = tuple[int, int, int, int, str]
"""How a layer's weights are packed: outputs, inputs, the size of a group, bits, and MLX's name of the mode."""


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
    # A trial compiles, which no request should wait for: there is one in any case, short where it decides nothing.
    chosen = {form for form in forms if is_faster(*form, most=TRIED_LAYERS if tried else 1) or not tried}
    return [(name, packed_layer(layer, name)) for name, layer in fitting if form_of(layer) in chosen]


def form_of(layer: Any) -> Form:
    """The form of a layer that fits."""
    outputs, groups = layer.scales.shape[-2:]
    return outputs, groups * layer.group_size, layer.group_size, layer.bits, layer.mode


def is_faster(outputs: int, inputs: int, group_size: int, bits: int, mode: str, *, most: int = TRIED_LAYERS) -> bool:
    """Whether weights packed so are multiplied faster than the same in float32, tried with one row and with several,
    and with as many layers as it takes, at most `most`.

    Small ones are not: each product waits for the one before it to be computed.
    """
    from mlx_server.workers.engine.runtime.packed_layers import packed_layer

    count = min(most, max(1, TRIED_BYTES // (4 * outputs * inputs)))
    packed = [packed_layer(nn.QuantizedLinear(inputs, outputs, False, group_size, bits, mode)) for _ in range(count)]
    plain = [nn.Linear(inputs, outputs, bias=False) for _ in range(count)]
    for layer in (*packed, *plain):
        layer.update(tree_map(mx.zeros_like, layer.parameters()))
        mx.eval(layer.parameters())
    return all(seconds(packed, inputs, rows) < WORTHWHILE * seconds(plain, inputs, rows) for rows in ROWS)


def seconds(layers: list[Any], inputs: int, rows: int) -> float:
    """Of a product by each layer with so many rows, which are computed for it: the fastest of a few, after one that may
    have something compiled."""
    x = mx.ones((rows, inputs))
    taken = []
    for _ in range(1 + TRIES):
        began = perf_counter()
        mx.eval([layer(x + number) for number, layer in enumerate(layers)])
        taken.append(perf_counter() - began)
    return min(taken[1:])
