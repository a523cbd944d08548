"""RoPE scaling, from the keys of a GGUF file to a config's `rope_scaling` (llama.cpp: llama-hparams, llama-context)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

OF_CONVERTER = ("rope_scaling", "rope_parameters")
"""Where gguf2mlx writes what it reads itself: Llama 3's table of factors, Phi's tensors, DeepSeek's and Qwen 3.5's."""


def scaling(
    metadata: Mapping[str, Any], architecture: str, config: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What to set in a config, and notes on what can't be carried over."""
    keys = f"{architecture}.rope.scaling."
    kind = metadata.get(f"{keys}type", "linear")
    factor = float(metadata.get(f"{keys}factor") or metadata.get(f"{architecture}.rope.scale_linear") or 1)
    attention = float(metadata.get(f"{keys}attn_factor", 1))
    original = metadata.get(f"{keys}original_context_length")
    written = next((config[name] for name in OF_CONVERTER if config.get(name)), None)
    if written is not None:
        return {}, uncomputed(f"{keys}type", kind, factor, written)
    match kind:
        case "none":
            found = {}
        case "linear":
            found = {"factor": factor} if factor != 1 else {}
        case "yarn":
            found = yarn(metadata, keys, factor, attention, original or config["max_position_embeddings"])
        case _:
            return unknown(f"{keys}type", kind, original)
    notes = []
    if attention != 1 and kind != "yarn":
        notes.append(f"{keys}attn_factor of {attention:g} is not computed: answers may be worse")
    if kind == "yarn" and (part := metadata.get(f"{keys}yarn_ext_factor", 1)) != 1:
        notes.append(f"{keys}yarn_ext_factor of {part:g} is not computed but 1: answers may be worse")
    return {"rope_scaling": {"rope_type": kind, "type": kind, **found}} if found else {}, notes


def yarn(metadata: Mapping[str, Any], keys: str, factor: float, attention: float, original: int) -> dict[str, Any]:
    """YaRN's parameters; what a file leaves out is what transformers takes too."""
    if factor <= 1:
        return {}
    found: dict[str, Any] = {"factor": factor, "original_max_position_embeddings": original}
    for name in ("beta_fast", "beta_slow"):
        if f"{keys}yarn_{name}" in metadata:
            found[name] = float(metadata[f"{keys}yarn_{name}"])
    if attention != 1:
        found["attention_factor"] = attention * (1 + 0.1 * math.log(factor))
    return found


def unknown(key: str, kind: str, original: int | None) -> tuple[dict[str, Any], list[str]]:
    """For a scaling that nothing here computes: without it a model is good for its first context only."""
    if original is None:
        return {}, [f"{key} {kind!r} is not known here: long prompts may be answered with nonsense"]
    return {"max_position_embeddings": original}, [
        f"{key} {kind!r} is not known here: the context ends where it would begin, after {original} tokens"
    ]


def uncomputed(key: str, kind: str, factor: float, written: Mapping[str, Any]) -> list[str]:
    """For a file whose metadata asks for another scaling than what is written already."""
    if factor == 1 or kind in (written.get("rope_type"), written.get("type"), "none", "longrope"):
        return []
    return [f"{key} {kind!r} is not computed for this kind of model: long prompts may be answered with nonsense"]
