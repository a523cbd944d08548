"""Whisper's weights and sizes in the names of Hugging Face's `WhisperForConditionalGeneration`."""

from __future__ import annotations

import re
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.from_ctranslate2.model_bin import ModelBin, ModelBinError

SPEC = "WhisperSpec"
"""How CTranslate2 calls this kind of model."""

NAMES = {
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "embeddings": ("embed_tokens",),
    "position_encodings": ("embed_positions",),
    "layer_norm": ("layer_norm",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
"""A module of CTranslate2's, and those that it joins along the first axis."""

KINDS = {"weight": "weight", "gamma": "weight", "encodings": "weight", "bias": "bias", "beta": "bias"}
ARRAY = re.compile(r"(?P<side>encoder|decoder)/(?:layer_(?P<layer>\d+)/)?(?P<module>[\w/]+)/(?P<kind>\w+)")
FLOATS = {mx.float16: "float16", mx.float32: "float32"}

SPECIAL_TOKENS = 107
"""From <|endoftext|> to <|notimestamps|>, with 99 languages; they stand before the timestamps."""

TIMESTAMPS = 1501
"""The last tokens: <|0.00|> to <|30.00|>."""


def weights(model: ModelBin) -> dict[str, mx.array]:
    """The weights, in the type that they have in the file. Raises `ModelBinError` for what is no Whisper."""
    found: dict[str, mx.array] = {}
    for name, array in model.arrays.items():
        if array.ndim == 0:
            continue
        match = ARRAY.fullmatch(name)
        if match is None or match["module"] not in NAMES or match["kind"] not in KINDS:
            raise ModelBinError(f"{name} is no array of a Whisper that is read here")
        if array.dtype not in FLOATS:
            raise ModelBinError(f"{name} is quantised: only {' and '.join(FLOATS.values())} are read")
        layer = f"layers.{match['layer']}." if match["layer"] else ""
        modules = NAMES[match["module"]]
        for module, part in zip(modules, mx.split(array, len(modules)), strict=True):
            found[f"model.{match['side']}.{layer}{module}.{KINDS[match['kind']]}"] = part
    # Whisper's keys have no bias: the zeros are there to join them with queries and values.
    return {name: array for name, array in found.items() if not name.endswith("k_proj.bias")}


def config(model: ModelBin, weights: dict[str, mx.array]) -> dict[str, Any]:
    """config.json, as far as sizes say it."""
    words, width = weights["model.decoder.embed_tokens.weight"].shape
    conv, end = weights["model.encoder.conv1.weight"], words - TIMESTAMPS - SPECIAL_TOKENS
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": words,
        "num_mel_bins": conv.shape[1],
        "d_model": width,
        **_side("encoder", model, weights, "max_source_positions"),
        **_side("decoder", model, weights, "max_target_positions"),
        "activation_function": "gelu",
        "scale_embedding": False,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": end + 1,
        "dtype": FLOATS[conv.dtype],
    }


def _side(side: str, model: ModelBin, weights: dict[str, mx.array], positions: str) -> dict[str, Any]:
    layers = [name for name in weights if name.startswith(f"model.{side}.") and name.endswith(".fc1.weight")]
    return {
        f"{side}_layers": len(layers),
        f"{side}_attention_heads": model.arrays[f"{side}/num_heads"].item(),
        f"{side}_ffn_dim": weights[layers[0]].shape[0],
        positions: weights[f"model.{side}.embed_positions.weight"].shape[0],
    }
