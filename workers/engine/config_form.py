"""A model's config in the form that mlx-lm's classes read.

transformers 5 writes rotary positions as `rope_parameters`, for some models by the type of a layer. Most classes of
mlx-lm 0.32 know only what earlier versions wrote beside each other: `rope_theta`, `rope_scaling`,
`partial_rotary_factor` and names of their own. Without those they fall back on a default, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("rope_theta", "rotary_emb_base", "global_rope_theta")
"""What classes call the base of most layers."""

LOCAL_NAMES = ("rope_local_base_freq", "swa_rope_theta", "rope_local_theta", "local_rope_theta")
"""What they call that of layers with a sliding window."""

PARTIAL_NAMES = ("partial_rotary_factor", "rotary_pct")

PATTERNS = {"sliding_window_pattern": False, "global_attn_every_n_layers": True}
"""Numbers that said which layers have full attention, and whether the first has."""

TIES = "tie_word_embeddings"
ORIGINAL = "original_max_position_embeddings"
STRETCHED = ("yarn", "llama3", "longrope")
"""Kinds of scaling that begin from the length of the first training."""


def suited(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys to set in a config, and in the `text_config` inside it; none where a class reads it as it is."""
    absent = object()
    changes = {name: value for name, value in legacy(config).items() if config.get(name, absent) != value}
    text = config.get("text_config")
    if isinstance(text, Mapping):
        ties = {name: config[name] for name in (TIES,) if name in config and name not in text}
        if inner := ties | suited(text):
            changes["text_config"] = {**text, **inner}
    return changes


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
        found |= dict.fromkeys(PARTIAL_NAMES, most["partial_rotary_factor"]) if "partial_rotary_factor" in most else {}
        found["rope_scaling"] = scaling_of(most)
        local = by_type.get("sliding_attention", {})
        found |= dict.fromkeys(LOCAL_NAMES, local["rope_theta"]) if "rope_theta" in local else {}
    elif isinstance(config.get("rope_scaling"), Mapping) and by_type:
        found["rope_scaling"] = scaling_of(next(iter(by_type.values())))
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        found |= {name: n for name, first in PATTERNS.items() if (n := period(kinds, first)) is not None}
    return found


def rope_by_type(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rotary positions as transformers 5 reads them, by the type of a layer; `""` stands for all layers."""
    given = config.get("rope_parameters")
    if not isinstance(given, Mapping):
        given = config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        return {}
    inner = {name: value for name, value in given.items() if isinstance(value, Mapping)}
    filled = {name: filled_in(value, config) for name, value in (inner or {"": given}).items()}
    return {name: value for name, value in filled.items() if "rope_theta" in value or value["rope_type"] != "default"}


def filled_in(given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """One set of parameters with what transformers takes from elsewhere in the config."""
    found = {**given, "rope_type": given.get("rope_type") or given.get("type") or "default"}
    for name in ("rope_theta", "partial_rotary_factor"):
        if found.get(name) is None and config.get(name) is not None:
            found[name] = config[name]
    if found["rope_type"] in STRETCHED:
        first, longest = config.get(ORIGINAL), config.get("max_position_embeddings")
        original = first or found.get(ORIGINAL) or longest
        if original is not None:
            found[ORIGINAL] = original
    return {name: value for name, value in found.items() if value is not None}


def scaling_of(parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """`rope_scaling` of before, with its kind under both names; None for no scaling."""
    if parameters["rope_type"] == "default" and "mrope_section" not in parameters:
        return None
    rest = {name: value for name, value in parameters.items() if name != "rope_theta"}
    return {**rest, "type": parameters.get("type") or parameters["rope_type"]}


def period(kinds: list[str], first: bool) -> int | None:
    """How many layers there are from one with full attention to the next, where the first layer, or the last of each
    such group, is one; None where they follow no such pattern."""
    if not set(kinds) <= {"sliding_attention", "full_attention"} or "full_attention" not in kinds:
        return None
    full = [n for n, kind in enumerate(kinds) if kind == "full_attention"]
    size = (full[1] if len(full) > 1 else len(kinds)) if first else full[0] + 1
    at = 0 if first else size - 1
    return size if full == list(range(at, len(kinds), size)) else None
