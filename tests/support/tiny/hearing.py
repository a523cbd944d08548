"""Families that mlx-audio hears with, at tiny sizes and with random weights: what they write down means nothing."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
import sentencepiece
from mlx.utils import tree_flatten
from support.tokenizer_files import bytewise
from tokenizers import Tokenizer

PIECES = ["▁the", "▁old", "▁man", "▁sat", "s", "ing", "▁by", "▁sea"]
MELS = 16
PREPROCESSOR = {
    "sample_rate": 16_000,
    "normalize": "per_feature",
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": MELS,
    "n_fft": 512,
    "dither": 0.0,
}
CONFORMER = {
    "feat_in": MELS,
    "n_layers": 1,
    "d_model": 32,
    "n_heads": 2,
    "ff_expansion_factor": 2,
    "subsampling_factor": 8,
    "self_attention_model": "rel_pos",
    "subsampling": "dw_striding",
    "conv_kernel_size": 9,
    "subsampling_conv_channels": 8,
    "pos_emb_max_len": 500,
}
QUIET = 0.05
"""Weights that are smaller would make no sound that is heard."""

DURATIONS = [0, 1, 2, 3, 4]
CANARY_MARKS = [
    *("<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|endoftext|>", "<|pnc|>", "<|nopnc|>"),
    *("<|noitn|>", "<|notimestamp|>", "<|nodiarize|>", "<|en|>", "<|de|>"),
]
QWEN_MARKS = ["<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<|im_start|>", "<|im_end|>"]
CONFIGS: dict[str, dict[str, Any]] = {
    "moonshine": {
        "vocab_size": 900,
        "hidden_size": 32,
        "intermediate_size": 64,
        "encoder_num_hidden_layers": 1,
        "decoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 2,
        "decoder_num_attention_heads": 2,
    },
    "parakeet": {
        "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
        "model_defaults": {"tdt_durations": DURATIONS},
        "preprocessor": PREPROCESSOR,
        "encoder": CONFORMER,
        "decoder": {
            "blank_as_pad": True,
            "vocab_size": len(PIECES),
            "prednet": {"pred_hidden": 16, "pred_rnn_layers": 1},
        },
        "joint": {
            "num_classes": len(PIECES),
            "vocabulary": PIECES,
            "num_extra_outputs": len(DURATIONS),
            "jointnet": {"joint_hidden": 16, "activation": "relu", "encoder_hidden": 32, "pred_hidden": 16},
        },
        "decoding": {"model_type": "tdt", "durations": DURATIONS, "greedy": {"max_symbols": 3}},
    },
    "sensevoice": {
        "vocab_size": 40,
        "input_size": 7 * MELS,
        "encoder_conf": {
            "output_size": 32,
            "attention_heads": 2,
            "linear_units": 64,
            "num_blocks": 1,
            "tp_blocks": 1,
        },
        "frontend_conf": {"n_mels": MELS},
    },
    "canary": {
        "preprocessor": {"features": MELS},
        "encoder": CONFORMER,
        "transf_decoder": {"num_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "inner_size": 64},
        "enc_output_dim": 32,
        "supported_languages": ["en", "de"],
    },
    "mms": {
        "vocab_size": 12,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": [16] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    },
    "qwen3_asr": {
        "audio_config": {
            "num_mel_bins": MELS,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "output_dim": 32,
            "downsample_hidden_size": 16,
        },
        "text_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
        "support_languages": ["English", "German"],
    },
}


def make_hearing(folder: Path, family: str) -> Path:
    """A folder with a model of this family."""
    folder.mkdir(parents=True)
    config = {"model_type": family, **CONFIGS[family]}
    if add := FILES.get(family):
        config |= add(folder)
    return random_model("stt", folder, config)


def random_model(kind: str, folder: Path, config: dict[str, Any]) -> Path:
    """Write the configuration and random weights, under the names and in the layout that mlx-audio reads; `kind` is its
    own word for what the model does."""
    (folder / "config.json").write_text(json.dumps(config))
    module = importlib.import_module(f"mlx_audio.{kind}.models.{config['model_type']}")
    mx.random.seed(0)
    types = getattr(module, "ModelConfig", None) or module.ModelArgs
    model = module.Model(types.from_dict({**json.loads(json.dumps(config)), "model_path": str(folder)}))
    weights = {name: drawn(name, array) for name, array in tree_flatten(model.parameters())}
    read = model.sanitize(dict(weights)) if hasattr(model, "sanitize") else weights
    # What is transposed when it is read is written the other way round.
    stored = {
        name: array if name not in read or read[name].shape == array.shape else array.swapaxes(1, 2)
        for name, array in weights.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), stored)
    return folder


def drawn(name: str, array: mx.array) -> mx.array:
    """Values for what the classes leave at nearly nothing, or at what grows beyond numbers."""
    if name.endswith("weight_g"):
        return mx.full(array.shape, 0.1)
    if name.endswith("weight_v") or not (name.endswith("bias") or mx.abs(array).max().item() > QUIET):
        return mx.random.normal(array.shape) / 2
    return mx.ones(array.shape) if "alpha" in name else array


def write_tokenizer(folder: Path, special: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer of a language model, with these tokens more."""
    bytewise(folder, None)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    return tokenizer


def moonshine(folder: Path) -> dict[str, Any]:
    """Its files beside the weights."""
    write_tokenizer(folder)
    return {}


def sensevoice(folder: Path) -> dict[str, Any]:
    """The same."""
    words = [f"▁word{number}" for number in range(CONFIGS["sensevoice"]["vocab_size"])]
    (folder / "tokens.json").write_text(json.dumps(words))
    return {}


def mms(folder: Path) -> dict[str, Any]:
    """The same."""
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate("_|abcdefghij")}))
    return {}


def canary(folder: Path) -> dict[str, Any]:
    """The same, with what the configuration has to say of them."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the old man sat by the sea"] * 20),
        model_writer=file,
        vocab_size=64,
        hard_vocab_limit=False,
        user_defined_symbols=CANARY_MARKS,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(file.getvalue())
    return {"vocab_size": sentencepiece.SentencePieceProcessor(model_proto=file.getvalue()).get_piece_size()}


def qwen3_asr(folder: Path) -> dict[str, Any]:
    """The same."""
    tokenizer = write_tokenizer(folder, QWEN_MARKS)
    extractor = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": MELS}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return {
        "audio_start_token_id": tokenizer.token_to_id("<|audio_start|>"),
        "audio_end_token_id": tokenizer.token_to_id("<|audio_end|>"),
        "audio_token_id": tokenizer.token_to_id("<|audio_pad|>"),
        "text_config": {**CONFIGS["qwen3_asr"]["text_config"], "vocab_size": tokenizer.get_vocab_size()},
    }


FILES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "moonshine": moonshine,
    "sensevoice": sensevoice,
    "mms": mms,
    "canary": canary,
    "qwen3_asr": qwen3_asr,
}
