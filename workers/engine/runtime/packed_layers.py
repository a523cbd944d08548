"""Layers whose quantised weights stay packed while a CPU multiplies with them.

They are MLX's and mlx-lm's layers with the same arrays. The kernels compute at once: where that may be for nobody, as
an output layer's numbers for a whole prompt, MLX is left to do it when it is asked for.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.switch_layers import QuantizedSwitchLinear
from numpy.typing import NDArray

from mlx_server.workers.engine.runtime import vector_math
from mlx_server.workers.engine.runtime.packed_kernels import WORDS, by_places, kernel, unpacker, weights_in_word

Floats = NDArray[np.float32]
"""Numbers of any shape, [...]."""

POWERS = (np.arange(256, dtype=np.uint32) << 23).view(np.float32)
"""What an 8-bit scale (e8m0 of the OCP Microscaling formats) stands for: a float32's exponent, the least being 0."""

MANY = 48
"""Rows of x, from which on a library multiplies them faster, with weights that are unpacked for it."""

UNPACKED = 1 << 17
"""Weights that are unpacked at a time: they stay in the processor's cache, and need no memory from the system."""

ASKED = 32
"""Tokens of a row for which an output layer is asked at once, guesses among them; with more it is a prompt."""


class Packed:
    """A layer's quantised weights as numpy reads them, without a copy: [outputs, inputs], or [experts, ...] of them."""

    def __init__(self, layer: Any) -> None:
        """Of a layer that `fits`."""
        together = weights_in_word(layer.mode, layer.bits, layer.group_size)
        assert together is not None
        self.source: mx.array = layer.weight
        self.form = layer.mode, layer.bits, together
        self.weight = np.asarray(layer.weight).view(WORDS[together * layer.bits])
        self.scales = np.asarray(layer.scales)
        if self.scales.dtype == np.uint8:
            self.scales = POWERS[self.scales]
        biases = layer.get("biases")
        self.biases = np.zeros((*self.scales.shape[:-1], 0), np.float32) if biases is None else np.asarray(biases)
        self.outputs = self.weight.shape[-2]

    def times(self, x: Floats, expert: int | None = None) -> Floats:
        """x [rows, inputs] in C order, times the transposed weights: [rows, outputs]."""
        weight, scales, biases = (
            array if expert is None else array[expert] for array in (self.weight, self.scales, self.biases)
        )
        result = np.empty((len(x), self.outputs), np.float32)
        if len(x) < MANY:
            kernel(*self.form, several(len(x), self.form[2]))(weight, scales, biases, x, result)
            return result
        inputs = x.shape[-1]
        step = max(1, UNPACKED // inputs)
        unpacked = np.empty((min(step, self.outputs), inputs), np.float32)
        # By MLX, whose threads are awake: numpy's library has others, which would take the processor from them.
        given = mx.array(by_places(x, scales.shape[1], self.form[2]))
        for some in (slice(at, at + step) for at in range(0, self.outputs, step)):
            part = unpacked[: len(weight[some])]
            unpacker(*self.form)(weight[some], scales[some], biases[some], part)
            result[:, some] = np.asarray(given @ mx.array(part).T)
        return result


def several(rows: int, together: int) -> int:
    """How many of the rows are multiplied at a time: weights are unpacked once for them."""
    if rows > 1:
        return 8
    # Of two weights to a word no vectors are made for one row alone.
    return 2 if together == 2 else 1


class Multiplying:
    """What the layers share."""

    output = False
    """It is a model's output layer."""

    _packed: Packed | None = None

    def packed(self) -> Packed:
        """The weights [..., outputs, inputs], which may have been replaced since the last time."""
        if self._packed is None or self._packed.source is not self["weight"]:  # type: ignore[index]
            self._packed = Packed(self)
        return self._packed

    def times(self, x: mx.array) -> mx.array:
        """x [..., inputs] to [..., outputs], at once or, where it may be for nobody, when it is asked for."""
        prompt = self.output and x.ndim > 2 and x.shape[-2] > ASKED
        numbers = None if prompt else numbers_of(x)
        if numbers is None:
            return x @ dequantised(self).T
        packed = self.packed()
        return mx.array(packed.times(numbers.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], packed.outputs))


def numbers_of(x: mx.array) -> Floats | None:
    """x [...] as float32; None if nobody may ask for what comes of it, or it is being traced."""
    return None if vector_math.lazy.get() else vector_math.numbers_of(x.astype(mx.float32))


def dequantised(layer: Any) -> mx.array:
    """A layer's weights [..., outputs, inputs] in float32."""
    biases = layer.get("biases")
    weight = mx.dequantize(layer.weight, layer.scales, biases, layer.group_size, layer.bits, layer.mode)
    return weight.astype(mx.float32)


class PackedLinear(Multiplying, nn.QuantizedLinear):  # type: ignore[misc]  # mlx.nn is untyped
    """A linear layer."""

    def __call__(self, x: mx.array) -> mx.array:
        """x [..., inputs] to [..., outputs]."""
        result = self.times(x)
        return result + self["bias"] if "bias" in self else result


class PackedEmbedding(Multiplying, nn.QuantizedEmbedding):  # type: ignore[misc]  # mlx.nn is untyped
    """An embedding, which may be the output layer, too."""

    output = True

    def as_linear(self, x: mx.array) -> mx.array:
        """x [..., inputs] to [..., tokens]."""
        return self.times(x)


class PackedSwitchLinear(Multiplying, QuantizedSwitchLinear):  # type: ignore[misc]  # mlx.nn is untyped
    """Linear layers of experts, of which every row of x has its own."""

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        """x [..., 1, inputs] and experts `indices` [...], to which x can be broadcast, to [..., 1, outputs]."""
        numbers = numbers_of(x)
        if numbers is None:
            left: mx.array = super().__call__(x, indices, sorted_indices)
            return left
        packed, experts = self.packed(), np.asarray(indices)
        rows = np.broadcast_to(numbers, (*experts.shape, 1, x.shape[-1])).reshape(-1, x.shape[-1])
        products = np.empty((len(rows), packed.outputs), np.float32)
        for expert in np.unique(experts):
            chosen = experts.reshape(-1) == expert
            products[chosen] = packed.times(rows[chosen], int(expert))
        result = mx.array(products.reshape(*experts.shape, 1, packed.outputs))
        return result + mx.expand_dims(self["bias"][indices], -2) if "bias" in self else result


KINDS = {
    nn.QuantizedLinear: PackedLinear,
    nn.QuantizedEmbedding: PackedEmbedding,
    QuantizedSwitchLinear: PackedSwitchLinear,
}


def fits(layer: Any) -> bool:
    """Whether there is a kernel for a layer's weights."""
    return type(layer) in KINDS and weights_in_word(layer.mode, layer.bits, layer.group_size) is not None


def packed_layer(layer: Any, name: str = "") -> Any:
    """A layer that `fits`, by its name in a model: with the same arrays, it multiplies with them as they are."""
    kind = KINDS[type(layer)]
    packed: Any = kind.__new__(kind)
    vars(packed).update(vars(layer))
    dict.update(packed, layer)
    packed.output = packed.output or name.endswith("lm_head")
    return packed
