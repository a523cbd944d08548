"""Tiny random models with a byte-level tokenizer and a chat template: real architectures, no download."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen3": {**COMMON, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
    "qwen2": {**COMMON, "num_attention_heads": 4, "num_key_value_heads": 2},
    "gpt_oss": {
        **COMMON,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_hidden_layers": 4,
    },
    "gemma2": {**COMMON, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
    "gemma3_text": {
        **COMMON,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 24,
        "sliding_window_pattern": 2,
    },
    "mamba": {
        **COMMON,
        "state_size": 8,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
    },
    "qwen3_5": {
        **COMMON,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "full_attention_interval": 2,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "rope_parameters": {
            "type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0,
            "mrope_section": [4, 2, 2],
        },
    },
    "qwen3_next": {
        **COMMON,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "full_attention_interval": 2,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 32,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
        "partial_rotary_factor": 0.5,
    },
}
WIDE: dict[str, Any] = {
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "max_position_embeddings": 32768,
}
"""What makes a tiny llama's KV states 32 KB a token in float32."""

SPECIAL = ["<unk>", "<s>", "<|im_end|>", "<|im_start|>"]
TEMPLATE = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


THINKING_TEMPLATE = TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% elif opens_thinking %}<think>\n{% endif %}{% endif %}",
)


def make_model(
    folder: Path,
    architecture: str,
    seed: int = 0,
    *,
    thinks: bool = False,
    vocabulary: tuple[int, int] | None = None,
    **more: Any,
) -> Path:
    """Write a random model of an architecture that mlx-lm serves; returns its folder.

    One that `thinks` has the marks of reasoning, and a template that forbids it, opens it or leaves it to the model.
    `vocabulary`: the folder has a tokenizer of this size, with the id that ends a turn. `more` is for the config.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes

    special, template = (SPECIAL, TEMPLATE) if not thinks else ([*SPECIAL, "<think>", "</think>"], THINKING_TEMPLATE)
    vocab_size, end = vocabulary or write_tokenizer(folder, special, template)
    config = {
        "model_type": architecture,
        "vocab_size": vocab_size,
        "eos_token_id": end,
        "bos_token_id": 1,
        **ARCHITECTURES[architecture],
        **more,
    }
    (folder / "config.json").write_text(json.dumps(config))
    model_class, arguments_class = _get_classes(config)
    mx.random.seed(seed)
    model = model_class(arguments_class.from_dict(config))
    weights = {name: spread(mx, name, array) for name, array in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def split_by_layer(folder: Path) -> None:
    """Have each of a model's layers in a file of its own, and what is in none of them in another."""
    import mlx.core as mx

    whole = folder / "model.safetensors"
    files: dict[str, dict[str, Any]] = {}
    for name, array in mx.load(str(whole)).items():
        layer = re.search(r"layers\.\d+", name)
        files.setdefault(f"model-{layer[0] if layer else 'rest'}.safetensors", {})[name] = array
    for file, weights in files.items():
        mx.save_safetensors(str(folder / file), weights, {"format": "mlx"})
    index = {"weight_map": {name: file for file, weights in files.items() for name in weights}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()


def spread(mx: Any, name: str, array: Any) -> Any:
    """Random weights large enough that the output is no single token for ever; vectors stay as they were made."""
    if array.ndim < 2:
        return array
    scale = 1.0 if "embed" in name else 0.12 if "lm_head" in name else 0.2
    return mx.random.normal(array.shape) * scale


def write_tokenizer(folder: Path, special: list[str], template: str) -> tuple[int, int]:
    """A byte-level BPE tokenizer; returns the size of its vocabulary and the id that ends a turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog " * 5], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "unk_token": "<unk>",
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size(), tokenizer.token_to_id("<|im_end|>")
