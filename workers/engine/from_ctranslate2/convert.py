"""`python -m mlx_server.workers.engine.from_ctranslate2.convert SOURCE OUTPUT`: a Whisper as a Hugging Face folder.

SOURCE has model.bin, config.json, tokenizer.json and vocabulary.txt, as faster-whisper reads them. Why it failed is the
last line on standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.from_ctranslate2 import whisper
from mlx_server.workers.engine.from_ctranslate2.model_bin import ModelBinError, read_model_bin

END = "<|endoftext|>"


def convert(source: Path, output: Path) -> None:
    """Write the folder. Raises `ModelBinError` or `OSError`."""
    model = read_model_bin(source / "model.bin")
    if model.spec != whisper.SPEC:
        raise ModelBinError(f"it is a {model.spec}, and only Whisper is converted")
    weights = whisper.weights(model)
    config = whisper.config(model, weights)
    output.mkdir()
    mx.save_safetensors(str(output / "model.safetensors"), weights, {"format": "pt"})
    _write(output / "config.json", config)
    _write(output / "generation_config.json", generation_config(_read(source / "config.json")))
    _write(output / "preprocessor_config.json", preprocessor_config(config["num_mel_bins"]))
    tokens = (source / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    _write(output / "tokenizer.json", with_timestamps(_read(source / "tokenizer.json"), tokens))
    _write(output / "tokenizer_config.json", tokenizer_config(config["max_target_positions"]))


def generation_config(settings: dict[str, Any]) -> dict[str, Any]:
    """CTranslate2's config.json in Hugging Face's names: whose attention tells when a word was said, and which tokens
    are never written."""
    return {
        "alignment_heads": settings["alignment_heads"],
        "suppress_tokens": settings["suppress_ids"],
        "begin_suppress_tokens": settings["suppress_ids_begin"],
    }


def preprocessor_config(mel_bins: int) -> dict[str, Any]:
    """How all Whispers hear: 16 kHz in windows of 30 seconds, a spectrum of 25 ms each 10 ms."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": mel_bins,
        "sampling_rate": 16_000,
        "chunk_length": 30,
        "n_fft": 400,
        "hop_length": 160,
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def tokenizer_config(longest: int) -> dict[str, Any]:
    """Which class reads tokenizer.json."""
    roles = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END)
    return {"tokenizer_class": "WhisperTokenizer", "model_max_length": longest, "add_prefix_space": False, **roles}


def with_timestamps(tokenizer: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """tokenizer.json with those of all tokens that it lacks: <|0.00|> to <|30.00|>."""
    known = {*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    added = [{"id": number, "content": text, **plain} for number, text in enumerate(tokens) if number not in known]
    return {**tokenizer, "added_tokens": tokenizer["added_tokens"] + added}


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    try:
        convert(*map(Path, sys.argv[1:]))
    except (ModelBinError, OSError) as error:
        sys.exit(str(error))
