"""A Whisper with random weights and the real one's tokens: quick without a fast BLAS, and sure of what it hears."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_audio.stt.models.whisper import Model, ModelConfig

WIDTH = 32
CERTAINTY = 3.0
"""The embedding's deviation: its logits are far apart, so that a window is not tried again and again."""


def make_whisper(folder: Path, real: Path, *, many_languages: bool = False) -> Path:
    """The folder, with the tokenizer of a real one's. Those of many languages have a token more than those of one."""
    folder.mkdir(parents=True)
    for file in real.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, folder)
    config = json.loads((real / "config.json").read_text())
    config |= {"d_model": WIDTH, "encoder_layers": 1, "decoder_layers": 2}
    config["vocab_size"] += many_languages
    config |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink()  # whose attention tells the times of words: it has no such layers
    mx.random.seed(7)
    model = Model(ModelConfig.from_dict(config), mx.float32)
    weights = dict(tree_flatten(model.parameters()))
    weights["decoder.token_embedding.weight"] = CERTAINTY * mx.random.normal((config["vocab_size"], WIDTH))
    weights["decoder.positional_embedding"] = mx.random.normal(weights["decoder.positional_embedding"].shape)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder
