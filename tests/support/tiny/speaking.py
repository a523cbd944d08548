"""Families that mlx-audio speaks with, at tiny sizes and with random weights: they make noise, by all the steps of a
real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from support.tiny.hearing import random_model, write_tokenizer

STYLE = 128
WIDTH = 16
LANGUAGE_MODEL = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
SMALL = {"num_layers": 1, "hidden_dim": 32, "ffn_dim": 64, "num_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "pocket_tts": {
        "flow_lm": {
            "d_model": WIDTH,
            "num_heads": 2,
            "num_layers": 1,
            "dim_feedforward": 32,
            "max_period": 10_000,
            "lut_dim": WIDTH,
            "flow_dim": WIDTH,
            "flow_depth": 1,
            "ldim": 4,
        },
        "mimi": {
            "channels": 1,
            "sample_rate": 24_000,
            "frame_rate": 12.5,
            "dimension": WIDTH,
            "quantizer_dimension": 4,
            "quantizer_output_dimension": WIDTH,
            "n_filters": 2,
            "n_residual_layers": 1,
            "ratios": [6, 5, 4],
            "kernel_size": 7,
            "last_kernel_size": 3,
            "residual_kernel_size": 3,
            "dilation_base": 2,
            "compress": 2,
            "transformer_d_model": WIDTH,
            "transformer_num_heads": 2,
            "transformer_num_layers": 1,
            "transformer_layer_scale": 0.01,
            "transformer_context": 250,
            "transformer_max_period": 10_000,
            "transformer_dim_feedforward": 32,
        },
    },
    "kitten_tts": {
        "hidden_dim": WIDTH,
        "max_conv_dim": WIDTH,
        "max_dur": 10,
        "n_layer": 1,
        "n_mels": 80,
        "n_token": 178,
        "style_dim": STYLE,
        "text_encoder_kernel_size": 3,
        "asr_res_dim": 8,
        "decoder_out_dim": WIDTH,
        "plbert": {
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "hidden_size": WIDTH,
            "intermediate_size": 32,
            "max_position_embeddings": 512,
            "embedding_size": WIDTH,
        },
        "istftnet": {
            "resblock_kernel_sizes": [3, 3],
            "upsample_rates": [2, 2],
            "upsample_initial_channel": WIDTH,
            "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
            "upsample_kernel_sizes": [4, 4],
            "gen_istft_n_fft": 16,
            "gen_istft_hop_size": 4,
        },
        "voice_aliases": {"Leo": "voice-1-m"},
    },
    "voxcpm": {
        "lm_config": {
            **LANGUAGE_MODEL,
            "vocab_size": 900,
            "rope_long_factor": [1.0] * 8,
            "rope_short_factor": [1.0] * 8,
        },
        "encoder_config": SMALL,
        "dit_config": SMALL,
        "audio_vae_config": {
            "encoder_dim": 8,
            "encoder_rates": [2, 4],
            "latent_dim": 8,
            "decoder_dim": 16,
            "decoder_rates": [4, 2],
            "sample_rate": 16_000,
        },
        "patch_size": 2,
        "feat_dim": 8,
        "residual_lm_num_layers": 1,
        "scalar_quantization_latent_dim": 16,
    },
}


def make_speaking(folder: Path, family: str) -> Path:
    """A folder with a model of this family."""
    folder.mkdir(parents=True)
    return random_model("tts", folder, {"model_type": family, **CONFIGS[family], **FILES[family](folder)})


def pocket_tts(folder: Path) -> dict[str, Any]:
    """Its files beside the weights, and what the configuration has to say of them."""
    tokenizer = write_tokenizer(folder)
    (folder / "embeddings").mkdir()
    for number, name in enumerate(("anna", "bert")):
        prompt = mx.random.normal((1, 5, WIDTH), key=mx.random.key(number))
        mx.save_safetensors(str(folder / "embeddings" / f"{name}.safetensors"), {"audio_prompt": prompt})
    return {"flow_lm": {**CONFIGS["pocket_tts"]["flow_lm"], "n_bins": tokenizer.get_vocab_size()}}


def kitten_tts(folder: Path) -> dict[str, Any]:
    """The same."""
    rng = np.random.default_rng(0)
    styles = {f"voice-{number}-m": rng.standard_normal((10, 2 * STYLE)).astype(np.float32) for number in (1, 2)}
    np.savez(folder / "voices.npz", **styles)
    return {}


def voxcpm(folder: Path) -> dict[str, Any]:
    """The same."""
    write_tokenizer(folder)
    return {}


FILES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "pocket_tts": pocket_tts,
    "kitten_tts": kitten_tts,
    "voxcpm": voxcpm,
}
