"""Which quantised weights stay packed on a CPU: those for which there is a kernel that is faster than float32."""

from __future__ import annotations

import importlib.util
import os
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from mlx_server.workers.engine.runtime.kept_trials import KeptTrials
from mlx_server.workers.extras import install_line

TRIED_BYTES = 64 << 20
"""Of the weights that are tried, as float32: more than a processor's cache holds, as a model's are."""

TRIED_LAYERS = 128
"""At most: so many small ones tell enough, and thousands would take a minute."""

ROWS = (1, 8)
"""How many are multiplied in a trial: one for each kernel that decodes."""

TRIES = 5

WORTHWHILE = 0.8
"""The share of float32's time below which it pays: in a model, what is not multiplied waits for what is."""

CLEARLY = 1.3
"""A share that is so many times more or less says it for good."""

ENOUGH = 3
"""Of so many trials, each of another load, the middle one does."""

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
    chosen = {form_of(layer) for _, layer in fitting}
    if tried:
        kept = kept_trials()
        chosen = {form for form in chosen if pays(form, kept)}
    else:
        for form in chosen:
            have_compiled(form)
    return [(name, packed_layer(layer, name)) for name, layer in fitting if form_of(layer) in chosen]


def kept_trials() -> KeptTrials:
    """What is kept of this machine's trials, beside compiled kernels; nothing where these have no folder."""
    if (folder := os.environ.get("NUMBA_CACHE_DIR")) is None:
        return KeptTrials(None)
    device, threads = str(mx.device_info().get("device_name")), os.environ.get("NUMBA_NUM_THREADS", "")
    return KeptTrials.of(Path(folder), device, threads, version("numba"))


def form_of(layer: Any) -> Form:
    """The form of a layer that fits."""
    outputs, groups = layer.scales.shape[-2:]
    return outputs, groups * layer.group_size, layer.group_size, layer.bits, layer.mode


def pays(form: Form, kept: KeptTrials) -> bool:
    """Whether weights of a form are better kept packed, which is tried in each load until it is clear."""
    trial = f"packed {form}"
    shares = kept.get(trial, list[float]) or []
    if not are_enough(shares):
        shares = [*shares, share_of_time(*form)]
        kept.put(trial, shares)
    if median(shares) >= WORTHWHILE:
        return False
    have_compiled(form)
    return True


def have_compiled(form: Form) -> None:
    """Have all of a form's kernels compiled: no request should wait for that. They are the same whatever the
    number of outputs."""
    from mlx_server.workers.engine.runtime.packed_layers import MANY, packed_layer

    _, inputs, *packed = form
    layer = zeroed(packed_layer(nn.QuantizedLinear(inputs, 8, False, *packed)))
    for rows in (*ROWS, MANY):
        mx.eval(layer(mx.ones((rows, inputs))))


def are_enough(shares: list[float]) -> bool:
    """Whether these shares of time, each of a trial, are far enough from WORTHWHILE, or many."""
    far = [share * CLEARLY < WORTHWHILE or share > WORTHWHILE * CLEARLY for share in shares]
    return len(shares) >= ENOUGH or any(far)


def share_of_time(outputs: int, inputs: int, group_size: int, bits: int, mode: str) -> float:
    """The time in which weights packed so are multiplied, as a share of that of the same in float32: tried with one row
    and with several, of which the greater counts, and with as many layers as it takes, at most TRIED_LAYERS.

    Small ones gain less: each product waits for the one before it to be computed.
    """
    from mlx_server.workers.engine.runtime.packed_layers import packed_layer

    count = min(TRIED_LAYERS, max(1, TRIED_BYTES // (4 * outputs * inputs)))
    form = group_size, bits, mode
    packed = [zeroed(packed_layer(nn.QuantizedLinear(inputs, outputs, False, *form))) for _ in range(count)]
    plain = [zeroed(nn.Linear(inputs, outputs, bias=False)) for _ in range(count)]
    return max(seconds(packed, inputs, rows) / seconds(plain, inputs, rows) for rows in ROWS)


def zeroed(layer: Any) -> Any:
    """A layer with weights of zero."""
    layer.update(tree_map(mx.zeros_like, layer.parameters()))
    mx.eval(layer.parameters())
    return layer


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
