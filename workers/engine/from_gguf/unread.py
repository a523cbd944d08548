"""What a GGUF file says that nobody has read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlx_server.workers.engine.from_gguf.sampling import PREFIX as SAMPLING
from mlx_server.workers.folders.conversion_notes import UNREAD

HARMLESS = (
    ".vocab_size",
    ".tensor_data_layout",
    ".rope.scaling.finetuned",
    ".rope.scaling.yarn_attn_factor",  # llama.cpp computes it anew
    ".interleave_moe_layer_step",
    "tokenizer.ggml.token_type_count",
)
"""Keys, by how they end, that change no answer."""

TEMPLATES = "tokenizer.chat_template"
"""Files may have further templates by name; which one a model speaks by, the first one says."""

INFILL = ("fim_pre", "fim_suf", "fim_mid", "prefix", "suffix", "middle")
ROLES = tuple(f"tokenizer.ggml.{role}_token_id" for role in INFILL)
"""Tokens that are found by their text."""


def implied(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a converted config says by other names."""
    heads = config.get("num_attention_heads") or 1
    head = config.get("head_dim") or config.get("hidden_size", 0) // heads
    return {
        f"{architecture}.attention.key_length": head,
        f"{architecture}.attention.value_length": head,
        f"{architecture}.rope.dimension_count": int(head * config.get("partial_rotary_factor", 1)),
    }


def unread(
    metadata: Mapping[str, Any], asked: Iterable[str], architecture: str, config: Mapping[str, Any]
) -> list[str]:
    """The keys about the model, its vocabulary or its sampling that may change answers and that nobody asked for."""
    same, read = implied(architecture, config), set(asked)
    left = [key for key in metadata if key.startswith((f"{architecture}.", "tokenizer.", SAMPLING))]
    left = [key for key in left if key not in read and not key.startswith(TEMPLATES)]
    left = [key for key in left if not key.endswith(HARMLESS) and key not in ROLES]
    return sorted(key for key in left if not is_nothing(metadata[key]) and metadata[key] != same.get(key))


def is_nothing(value: Any) -> bool:
    """Whether it says that there is none of something."""
    return value is None or value == "" or value == [] or (value == 0 and not isinstance(value, bool))


def unread_notes(keys: Sequence[str]) -> list[str]:
    """What to say of them."""
    return [f"{UNREAD}{', '.join(keys)}"] if keys else []
