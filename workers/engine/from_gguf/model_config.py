"""The config.json that gguf2mlx has written, as mlx-lm's classes need it and as llama.cpp computes the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_server.workers.engine.from_gguf.positions import scaling

OWN_CODE = "model_file"
"""The key that names code in a model's folder, which is not executed here; gguf2mlx adds some for the first Gemma."""

EXACT_GELU = (
    "mlx-lm (0.32) computes the first Gemma's activation exactly, not by the approximation that it was trained with:"
    " answers may differ a little"
)
"""What that code would put right."""

OWN_HEADS = ("llama", "mistral")
"""Architectures whose classes read `head_dim`, and of which gguf2mlx 2.2 does not write it."""

ALWAYS_UNTIED = ("phi3", "phi4")
"""Architectures of which gguf2mlx 2.2 says that none has its embedding for an output layer; some have."""

LARGEST = {"gemma2": 46, "gemma3": 62}
"""How many layers the 27B models have, which alone scale queries by another width than a head's."""


def completed(
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
    architecture: str,
    endings: list[int],
    *,
    has_output: bool,
) -> tuple[dict[str, Any], list[str]]:
    """The config with what the GGUF file says and the library leaves out, and notes. `has_output`: the file has an
    output layer."""
    found = {key: value for key, value in config.items() if key != OWN_CODE}
    if endings:
        found["eos_token_id"] = endings
    width, heads = found["hidden_size"], found["num_attention_heads"]
    head = metadata.get(f"{architecture}.attention.key_length")
    if architecture in OWN_HEADS and head and head != width // heads:
        found["head_dim"] = head
    if architecture in ALWAYS_UNTIED:
        found["tie_word_embeddings"] = not has_output
    if LARGEST.get(architecture) == found["num_hidden_layers"]:
        found["query_pre_attn_scalar"] = width // heads
    if architecture == "gemma3":
        found |= {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
        found["rope_local_base_freq"] = metadata.get("gemma3.rope.freq_base_swa", 10_000.0)
    changes, notes = scaling(metadata, architecture, found)
    if OWN_CODE in config:
        notes.append(EXACT_GELU)
    return found | changes, notes
