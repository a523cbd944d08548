"""Kokoro-82M's weights in the names of its original in PyTorch."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.from_onnx.graph import Graph, Weight

PARTS = ("bert.", "bert_encoder.", "predictor.", "text_encoder.", "decoder.")
"""What the original consists of."""

OF_PREDICTOR = ("F0", "N", "shared")
"""How the names of modules begin that the export took out of the predictor."""

PLAIN = ("_proj", "noise_convs.0", "noise_convs.1")
"""How the names of convolutions end whose weights are not normalised."""

CONFIG: dict[str, Any] = {
    "model_type": "kokoro",
    "sample_rate": 24_000,
    "dim_in": 64,
    "dropout": 0.2,
    "hidden_dim": 512,
    "max_conv_dim": 512,
    "max_dur": 50,
    "multispeaker": True,
    "n_layer": 3,
    "n_mels": 80,
    "n_token": 178,
    "style_dim": 128,
    "text_encoder_kernel_size": 5,
    "istftnet": {
        "upsample_kernel_sizes": [20, 12],
        "upsample_rates": [10, 6],
        "gen_istft_hop_size": 5,
        "gen_istft_n_fft": 20,
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        "resblock_kernel_sizes": [3, 7, 11],
        "upsample_initial_channel": 512,
    },
    "plbert": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 2048,
        "max_position_embeddings": 512,
        "num_hidden_layers": 12,
        "dropout": 0.1,
    },
}
"""The original's config.json without its vocabulary."""


def weights(graph: Graph) -> dict[str, mx.array]:
    """All weights, dequantised to float32."""
    found = {}
    for name, array in graph.named().items():
        if own(name).startswith(PARTS):
            found[own(name)] = array
    for weight in graph.weights():
        found |= of_module(own(weight.module), weight)
    for module, arrays in graph.lstms():
        found |= {f"{own(module)}.{name}": array for name, array in arrays.items()}
    found = {name: array for name, array in found.items() if "istft" not in name}
    width = CONFIG["plbert"]["hidden_size"]
    # The export left out what nothing hears: a vector of the whole text.
    return found | {"bert.pooler.weight": mx.zeros((width, width)), "bert.pooler.bias": mx.zeros((width,))}


def own(name: str) -> str:
    """The original's name of what the export put into `encoder` or `decoder`."""
    name = name.split(".", 1)[1] if name.startswith(("encoder.", "decoder.")) else name
    return f"predictor.{name}" if name.startswith(OF_PREDICTOR) else name


def of_module(module: str, weight: Weight) -> dict[str, mx.array]:
    """A module's weights as PyTorch keeps them: of a linear layer with outputs first; of a convolution, which is
    [outputs, inputs, width], as length and direction."""
    if weight.operation.startswith("MatMul"):
        return {f"{module}.weight": weight.array.T}
    if module.endswith(PLAIN):
        return {f"{module}.weight": weight.array}
    length = mx.linalg.norm(weight.array.reshape(len(weight.array), -1), axis=1)
    return {f"{module}.weight_v": weight.array, f"{module}.weight_g": length.reshape(-1, 1, 1)}
