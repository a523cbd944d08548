"""The weights of an ONNX graph that onnxruntime has quantised, as numbers and by the modules that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
from onnx import ModelProto, NodeProto, numpy_helper

QUANTISED, SCALE = "_quantized", "_scale"
"""How onnxruntime names 8-bit numbers, and what a step of them is worth."""

LSTM = "DynamicQuantizeLSTM"

ZERO_POINT = {"ConvInteger": 3, "MatMulInteger": 3}
"""Which input of an operation is the zero point of its weights."""

WEIGHTED = {"Conv", "ConvTranspose", "MatMul", *ZERO_POINT}


@dataclass(frozen=True, slots=True)
class Weight:
    """Weights that an operation reads: `module` is the path of the module that it was exported from."""

    operation: str
    module: str
    array: mx.array


class Graph:
    """Reads the weights of a model."""

    def __init__(self, model: ModelProto) -> None:
        self._nodes = model.graph.node
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def named(self) -> dict[str, mx.array]:
        """What kept the names that it had before the export: biases, norms, embeddings, by these names."""
        kept = {name.removesuffix(QUANTISED) for name in self._stored if self._is_named(name)}
        return {
            name: self._embedding(name) if name + QUANTISED in self._stored else self[name] for name in sorted(kept)
        }

    def weights(self) -> Iterator[Weight]:
        """What operations multiply with, each once."""
        seen: set[str] = set()
        for node in self._nodes:
            name = node.input[1] if len(node.input) > 1 else ""
            if node.op_type in WEIGHTED and name in self._stored and name not in seen:
                seen.add(name)
                yield Weight(node.op_type, module_of(node.name), self._weight(node, name))

    def lstms(self) -> Iterator[tuple[str, dict[str, mx.array]]]:
        """Modules, and their weights by PyTorch's names."""
        for node in self._nodes:
            if node.op_type == LSTM:
                yield module_of(node.name), self._lstm(node)

    def __getitem__(self, name: str) -> mx.array:
        """What is stored under a name, [...], as it is."""
        return mx.array(numpy_helper.to_array(self._stored[name]))

    def _is_named(self, name: str) -> bool:
        return name[0] != "/" and "::" not in name and not name.endswith((SCALE, "_zero_point", "_reshape_shape"))

    def _embedding(self, name: str) -> mx.array:
        return self[name + QUANTISED].astype(mx.float32) * self[name + SCALE]

    def _weight(self, node: NodeProto, name: str) -> mx.array:
        array = self[name]
        if node.op_type not in ZERO_POINT:
            return array
        zero = self[node.input[ZERO_POINT[node.op_type]]].astype(mx.float32)
        return (array.astype(mx.float32) - zero) * self[name.removesuffix(QUANTISED) + SCALE]

    def _lstm(self, node: NodeProto) -> dict[str, mx.array]:
        found = {}
        for kind, number, scale in (("ih", 1, 8), ("hh", 2, 10)):
            step, zero = (self[node.input[at]].astype(mx.float32)[:, None, None] for at in (scale, scale + 1))
            both = (self[node.input[number]].astype(mx.float32) - zero) * step
            for array, direction in zip(both, ("", "_reverse"), strict=True):
                found[f"weight_{kind}_l0{direction}"] = gates(array.T)
        for array, direction in zip(self[node.input[3]], ("", "_reverse"), strict=True):
            for kind, bias in zip(("ih", "hh"), mx.split(array, 2), strict=True):
                found[f"bias_{kind}_l0{direction}"] = gates(bias)
        return found


def gates(array: mx.array) -> mx.array:
    """An LSTM's gates [4 * D, ...] in PyTorch's order (input, forget, cell, output); ONNX has input, output, forget,
    cell."""
    entry, output, forget, cell = mx.split(array, 4)
    return mx.concatenate([entry, forget, cell, output])


def module_of(node: str) -> str:
    """The module that an operation comes from: `/a/b.0/b.0.1/Conv_quant` is `a.b.0.1`."""
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()  # a module in a sequence has the sequence's name before its own
        path.append(part)
    return ".".join(path)
