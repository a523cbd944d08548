"""A model's config in the form that mlx-lm's classes read.

transformers 5 writes rotary positions as `rope_parameters`, for some models by the type of a layer. Most classes of
mlx-lm 0.32 know only what earlier versions wrote beside each other: `rope_theta`, `rope_scaling`,
`partial_rotary_factor` and names of their own. Without those they fall back on a default, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_server.workers.engine.loading.left_out import full_layers, granted
from mlx_server.workers.engine.loading.rope_form import LOCAL_NAMES, NAMES, rope_by_type, scaling_of
from mlx_server.workers.engine.loading.saved_form import global_layers
from mlx_server.workers.folders.context_length import ORIGINAL

PARTIAL_NAMES = ("partial_rotary_factor", "rotary_pct")

PATTERNS = {"sliding_window_pattern": False, "global_attn_every_n_layers": True}
"""Numbers that said which layers have full attention, and whether the first has."""

LAYER_NAMES = {
    "granitemoehybrid": {"linear_attention": "mamba", "full_attention": "attention"},
}
"""By type, kinds of layers whose names transformers 5 changed, and what classes call them."""

LETTERS = ("exaone4",)
"""Classes that want the pattern as a letter for each layer, L or G."""

FLAT = ("qwen2_vl", "qwen2_5_vl", "paddleocr_vl")
"""Models that see whose classes in mlx-vlm (0.7.10) look for what is about text beside what is about pictures."""

WIDE_AS_TEXT = ("gemma3", "paligemma")
"""Models that see whose classes divide pictures' vectors by the root of a `hidden_size` beside the parts, which no
config has or which is another's: it is that of the text."""

TOWER_NAMES = {
    "hunyuan_vl_vision": "hunyuan_vl",
    "kimi_k25_vision": "moonvit",
    "qwen2_vl_vision": "qwen2_vl",
    "qwen2_5_vl_vision": "qwen2_5_vl",
    "qwen3_vl_vision": "qwen3_vl",
    "qwen3_vl_moe_vision": "qwen3_vl_moe",
    "paddleocr_vl_vision": "paddleocr_vl",
}
"""Encoders of pictures that transformers 5 calls otherwise."""

WHOLE_ROPE = ("qwen3_5_text", "qwen3_5_moe_text", "glm_ocr_text", "muse_glimmer_text")
"""Types whose classes look for `rope_parameters` only."""

TIES = "tie_word_embeddings"

SCALED = ("deepseek_v2", "minicpm3")
"""Classes that look into `rope_scaling` whether there is one or not."""

NO_SCALING = {"type": "default", "factor": 1.0}

BY_PARAMETERS = ("ministral3", "mistral4")
"""Classes that read `rope_parameters` alone."""


def suited(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys to set in a config, and in the `text_config` inside it; none where a class reads it as it is."""
    absent = object()
    changes = {name: value for name, value in legacy(config).items() if config.get(name, absent) != value}
    text = config.get("text_config")
    changes |= seen_as_before(config)
    if isinstance(text, Mapping) and (inner := text_as_before(config, text) | suited(text)):
        changes["text_config"] = {**text, **inner}
    return changes


def seen_as_before(config: Mapping[str, Any]) -> dict[str, Any]:
    """What mlx-vlm's classes want to find elsewhere than transformers 5 writes it, in configs of models that see."""
    kind, text, tower = config.get("model_type"), config.get("text_config"), config.get("vision_config")
    if not isinstance(text, Mapping) or not isinstance(tower, Mapping):
        return {}
    changes: dict[str, Any] = {}
    if kind in FLAT:
        inner = {**text, **suited(text)}
        changes |= {name: value for name, value in inner.items() if name not in config and name != "model_type"}
    if kind in WIDE_AS_TEXT and "hidden_size" in text:
        changes["hidden_size"] = text["hidden_size"]
    if kind == "llava" and tower.get("model_type") == "pixtral":
        changes["model_type"] = "pixtral"
    named = TOWER_NAMES.get(str(tower.get("model_type")))
    if found := granted(tower) | ({"model_type": named} if named else {}):
        changes["vision_config"] = {**tower, **found}
    return changes


def text_as_before(config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """The same for what is to be in the config of the part that writes text."""
    found = {name: config[name] for name in (TIES, "mm_tokens_per_image") if name in config and name not in text}
    if "num_local_experts" in text and "num_experts" not in text:
        found["num_experts"] = text["num_local_experts"]
    found |= global_layers(text)
    by_type = rope_by_type(text)
    if text.get("model_type") in WHOLE_ROPE and "rope_parameters" not in text and "" in by_type:
        found["rope_parameters"] = by_type[""]
    return found


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that is about the layers that write text."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) and text else config


def legacy(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of positions and windows, by the names of before."""
    by_type = rope_by_type(config)
    found: dict[str, Any] = {}
    if isinstance(config.get("rope_parameters"), Mapping) and by_type:
        most = by_type.get("full_attention") or next(iter(by_type.values()))
        found |= dict.fromkeys(NAMES, most["rope_theta"]) if "rope_theta" in most else {}
        shares = {one.get("partial_rotary_factor") for one in by_type.values()}
        found |= dict.fromkeys(PARTIAL_NAMES, shares.pop()) if len(shares) == 1 and None not in shares else {}
        found["rope_scaling"] = scaling_of(most)
        found |= {ORIGINAL: most[ORIGINAL]} if ORIGINAL in most else {}
        local = by_type.get("sliding_attention", {})
        found |= dict.fromkeys(LOCAL_NAMES, local["rope_theta"]) if "rope_theta" in local else {}
        if "compress" in by_type:
            found["compress_rope_theta"] = by_type["compress"]["rope_theta"]
            found["rope_scaling"] = scaling_of(by_type["compress"])
    elif isinstance(config.get("rope_scaling"), Mapping) and by_type:
        found["rope_scaling"] = scaling_of(by_type.get("full_attention") or next(iter(by_type.values())))
    if config.get("model_type") in SCALED and found.get("rope_scaling", config.get("rope_scaling")) is None:
        found["rope_scaling"] = NO_SCALING
    if config.get("model_type") in BY_PARAMETERS and config.get("rope_parameters") is None and "" in by_type:
        found["rope_parameters"] = by_type[""]
    if config.get("partial_rotary_factor") is not None:
        found = {name: config["partial_rotary_factor"] for name in PARTIAL_NAMES if name not in config} | found
    if config.get("rope_theta") is not None:
        found = {name: config["rope_theta"] for name in NAMES if name not in config} | found
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        if names := LAYER_NAMES.get(str(config.get("model_type"))):
            found["layer_types"] = [names.get(kind, kind) for kind in kinds]
        if config.get("model_type") in LETTERS:
            found["sliding_window_pattern"] = "".join("L" if kind == "sliding_attention" else "G" for kind in kinds)
        else:
            found |= {name: n for name, first in PATTERNS.items() if (n := period(kinds, first)) is not None}
    return found | granted(config)


def period(kinds: list[str], first: bool) -> int | None:
    """How many layers there are from one with full attention to the next, where the first layer, or the last of each
    such group, is one; None where they follow no such pattern."""
    if not set(kinds) <= {"sliding_attention", "full_attention"} or "full_attention" not in kinds:
        return None
    full = full_layers(kinds)
    size = (full[1] if len(full) > 1 else len(kinds)) if first else full[0] + 1
    at = 0 if first else size - 1
    return size if full == list(range(at, len(kinds), size)) else None
