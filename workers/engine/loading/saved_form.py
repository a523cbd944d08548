"""A workaround: folders that transformers 5.24 saves in a form that mlx-lm 0.32.2 knows under another type or key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_server.workers.folders.known_types import TEXT_PARTS

BY_LAYER = "per_layer_config"
"""What single layers have of their own, by their numbers."""

GLOBAL_NAMES = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
"""What mlx-lm's and mlx-vlm's Gemma 4 call what layers with full attention have of their own."""


OUTER_VOCABULARY = ("gemma3", "gemma4")
"""Types whose classes look for the size of the vocabulary beside the part that writes text, or take Google's."""


def as_known(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys to set so that a class is found, and finds what it looks for."""
    kind = config.get("model_type")
    if kind in TEXT_PARTS:
        return {"model_type": TEXT_PARTS[kind], "text_config": dict(config)}
    found = global_layers(config) | base_inside(config)
    text = config.get("text_config")
    if kind in OUTER_VOCABULARY and isinstance(text, Mapping) and "vocab_size" not in config and "vocab_size" in text:
        found["vocab_size"] = text["vocab_size"]
    return found


def base_inside(config: Mapping[str, Any]) -> dict[str, Any]:
    """DBRX's base of rotary positions, which is inside `attn_config`: transformers 5.24 does not look there, and saves
    its own default beside."""
    inner, given = config.get("attn_config"), config.get("rope_parameters")
    if not isinstance(inner, Mapping) or not isinstance(given, Mapping) or "rope_theta" not in inner:
        return {}
    return {"rope_parameters": {**given, "rope_theta": inner["rope_theta"]}}


def global_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    """What Gemma 4's layers with full attention have of their own, where it is the same in all of them."""
    own = config.get(BY_LAYER)
    if not isinstance(own, Mapping) or not own:
        return {}
    first, *others = own.values()
    alike = isinstance(first, Mapping) and all(other == first for other in others)
    return {GLOBAL_NAMES[name]: value for name, value in first.items() if name in GLOBAL_NAMES} if alike else {}
