"""What a model's configuration says it is for. Pure: a dict in, an answer out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_server.app.catalog.kinds import Kind
from mlx_server.workers.folders.audio_types import audio_kind
from mlx_server.workers.folders.context_length import number, text_config
from mlx_server.workers.folders.encoder_types import architectures, is_classifier
from mlx_server.workers.folders.servable import sees

EMBEDDING_TYPES = {
    "bert",
    "xlm-roberta",
    "modernbert",
    "gemma3_embedding",
    "embedding_gemma2",
    "lfm2_embedding",
    "llama_bidirec",
    "llama_nemotron_vl_embedding",
    "qwen3_vl_embedding",
    "colqwen2_5",
    "colidefics3",
    "siglip",
    "siglip2",
}
"""Architectures that write no text."""

AUDIO_TYPES = {
    "whisper",
    "parakeet",
    "kokoro",
    "voxtral",
    "bark",
    "dia",
    "csm",
    "sesame",
    "spark",
    "moonshine",
    "wav2vec2",
}
AUDIO_PARTS = {"audio_config", "speech_config", "codec_config", "istftnet", "vocoder_config"}
"""Keys that only the configuration of a model with such a part has."""


def classify(config: Mapping[str, Any], *, pooled: bool = False, name: str = "") -> Kind:
    """The kind of a model with this config.json; `pooled`: its folder says how to pool its states to a vector, `name`
    is the folder's, which counts where the configuration names no architecture."""
    model_type = str(config.get("model_type", "")).lower()
    if is_classifier(config):
        return Kind.RERANKER
    if pooled or model_type in EMBEDDING_TYPES:
        return Kind.EMBEDDING
    if "_class_name" in config or any("DiffusionPipeline" in name for name in architectures(config)):
        return Kind.IMAGE
    if sees(config):
        return Kind.VISION
    if (
        audio_kind(config, name)
        or model_type in AUDIO_TYPES
        or any(config.get(part) is not None for part in AUDIO_PARTS)
    ):
        return Kind.AUDIO
    return Kind.LANGUAGE


def quantisation(config: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """How the weights are held, for people, and their bits if they are packed."""
    found = config.get("quantization") or config.get("quantization_config")
    if isinstance(found, Mapping):
        bits = found.get("bits")
        if isinstance(bits, int):
            return f"{bits}-bit", bits
        return str(found.get("quant_method") or found.get("mode") or "quantised"), None
    dtype = config.get("torch_dtype") or config.get("dtype") or text_config(config).get("dtype")
    return (str(dtype), None) if dtype else (None, None)


def kv_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """What a token keeps in the KV cache: 2 layers x heads x width in half precision; latent attention keeps one
    compressed state and its rotary part instead."""
    text = text_config(config)
    layers = number(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if layers is None:
        return None
    if (rank := number(text, "kv_lora_rank")) is not None:
        return 2 * layers * (rank + (number(text, "qk_rope_head_dim") or 0))
    heads = number(text, "num_attention_heads", "n_head", "n_heads")
    hidden = number(text, "hidden_size", "n_embd", "d_model", "dim")
    width = number(text, "head_dim") or (hidden // heads if hidden and heads else None)
    kv_heads = number(text, "num_key_value_heads", "n_kv_heads") or heads
    return 2 * 2 * layers * kv_heads * width if kv_heads and width else None


def head_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """What a token keeps for the sake of a head that drafts, of its configuration or of that of a model which holds it:
    hidden states of the model, which it reads, and keys and values of its own; in half precision."""
    layers, dflash = config.get("transformer_layer_config"), config.get("dflash_config")
    if isinstance(layers, Mapping):  # EAGLE-3
        own, read = layers, config.get("target_layer_ids") or config.get("eagle_aux_hidden_state_layer_ids") or range(3)
    elif isinstance(dflash, Mapping):
        own, read = config, dflash.get("target_layer_ids") or config.get("target_layer_ids") or ()
    else:
        text = text_config(config)
        depth = number(text, "mtp_num_hidden_layers") or 1
        own, read = {**text, "text_config": None, "num_hidden_layers": depth}, range(1)
    width, cache = number(config, "target_hidden_size") or number(own, "hidden_size"), kv_bytes_per_token(own)
    return None if width is None or cache is None else 2 * width * len(set(read)) + cache


def window_share(config: Mapping[str, Any]) -> float:
    """The share of layers that look back no further than a sliding window, as far as the configuration says."""
    text = text_config(config)
    kinds, every = text.get("layer_types"), number(text, "sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(kinds, Sequence) and kinds:
        return kinds.count("sliding_attention") / len(kinds)
    if number(text, "sliding_window") is None or every is None:
        return 0.0
    layers = number(text, "num_hidden_layers") or every
    return 1 - layers // every / layers
