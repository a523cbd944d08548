"""A tiny random language model with the tokens of one that says yes or no."""

from __future__ import annotations

import json
from pathlib import Path

from support.tiny.models import SPECIAL, TEMPLATE, spread, write_tokenizer

CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


def make_judge(folder: Path) -> Path:
    """Write a random Qwen3; returns its folder."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes

    vocab_size, end = write_tokenizer(folder, [*SPECIAL, "<think>", "</think>", "yes", "no"], TEMPLATE)
    config = {**CONFIG, "vocab_size": vocab_size, "eos_token_id": end}
    (folder / "config.json").write_text(json.dumps(config))
    model_class, arguments_class = _get_classes(config)
    mx.random.seed(3)
    model = model_class(arguments_class.from_dict(config))
    weights = {name: spread(mx, name, array) for name, array in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder
