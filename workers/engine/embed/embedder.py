"""From a batch of inputs to their vectors, whatever model gives the hidden states."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_server.workers.engine.embed.encoder_models import padded, read_weights
from mlx_server.workers.engine.embed.inputs.job import Item, Rows
from mlx_server.workers.engine.embed.pooling import l2_normalised, pool
from mlx_server.workers.engine.embed.sentence_files import Dense, Normalize, SentenceFiles
from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.encoder_types import padding_id

HiddenStates = Callable[[Several[Item]], tuple[mx.array, mx.array]]
"""A batch's last hidden states [B, L, D] and their mask int32 [B, L], 1 for a token; padding is on the right."""

Layer = Callable[[mx.array], mx.array]
"""Vectors [B, D] to vectors [B, D], of the same or another size."""

ACTIVATIONS: dict[str, Layer] = {
    "Identity": lambda vectors: vectors,
    "Tanh": mx.tanh,
    "ReLU": nn.relu,
    "GELU": nn.gelu,
    "Sigmoid": mx.sigmoid,
}


class Embedder:
    """Pools hidden states by `modes` and takes the vectors through the layers of the `head`. Engine thread only."""

    def __init__(self, hidden_states: HiddenStates, modes: Several[str], head: Several[Layer]) -> None:
        self._hidden_states = hidden_states
        self._modes = modes
        self._head = head

    def __call__(self, items: Several[Item]) -> Rows:
        """One pass: the inputs' vectors float32 [B, D], each the same whatever else is in the batch."""
        vectors = pool(*self._hidden_states(items), self._modes)
        for layer in self._head:
            vectors = layer(vectors)
        return np.array(vectors.astype(mx.float32))


def encoder_states(model: Any, config: dict[str, Any]) -> HiddenStates:
    """The hidden states of one of mlx-vlm's encoders."""
    padding = padding_id(config)

    def hidden_states(items: Several[Item]) -> tuple[mx.array, mx.array]:
        ids, mask, _ = padded(items, padding)
        return model(ids, attention_mask=mask).last_hidden_state, mask

    return hidden_states


def read_head(files: SentenceFiles, model: Any) -> list[Layer]:
    """The layers after the pooling; dense ones that the model's class has itself are not read again.

    Raises ModelLoadError.
    """
    own: list[Layer] = list(getattr(model, "dense", ()))
    read = [step for step in files.head if isinstance(step, Normalize) or not own]
    layers = [l2_normalised if isinstance(step, Normalize) else read_dense(step) for step in read]
    return own + layers


def read_dense(dense: Dense) -> Layer:
    """A linear layer and its activation. Raises ModelLoadError."""
    config, weights = read_json(dense.folder / "config.json"), read_weights(dense.folder)
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if name not in ACTIVATIONS:
        raise ModelLoadError(f"{dense.folder}: the activation {name!r} is not served; {', '.join(ACTIVATIONS)} are")
    if "linear.weight" not in weights:
        raise ModelLoadError(f"{dense.folder} has no linear.weight")
    weight, bias = weights["linear.weight"], weights.get("linear.bias")
    if platform.on_cpu():
        weight, bias = weight.astype(mx.float32), None if bias is None else bias.astype(mx.float32)

    def layer(vectors: mx.array) -> mx.array:
        product = vectors @ weight.T
        return ACTIVATIONS[name](product if bias is None else product + bias)

    return layer
