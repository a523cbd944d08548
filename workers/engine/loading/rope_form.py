"""Rotary positions as a config asks for them, whichever version of transformers wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_server.workers.folders.context_length import ORIGINAL

NAMES = ("rope_theta", "rotary_emb_base", "global_rope_theta", "rope_global_base_freq")
"""What classes call the base of most layers."""

LOCAL_NAMES = ("rope_local_base_freq", "swa_rope_theta", "rope_local_theta", "local_rope_theta")
"""What they call that of layers with a sliding window."""

AXES, HUNYUANS_AXES = "mrope_section", "xdrope_section"
"""How many dimensions turn by each of several positions, as transformers calls it, and as HunYuan did before."""

STRETCHED = ("yarn", "llama3", "longrope")
"""Kinds of scaling that begin from the length of the first training."""


def rope_by_type(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rotary positions as transformers 5 reads them, by the type of a layer; `""` stands for all layers."""
    given = config.get("rope_parameters")
    if not isinstance(given, Mapping):
        given = given_before(config)
    inner = {name: value for name, value in given.items() if isinstance(value, Mapping)}
    # transformers 5.24 looks for YaRN's `truncate` beside the types of layers, where it is not: true for all of them.
    inner = {name: {**value, "truncate": True} for name, value in inner.items()}
    filled = {name: filled_in(value, config) for name, value in (inner or {"": given}).items()}
    return {name: value for name, value in filled.items() if "rope_theta" in value or value["rope_type"] != "default"}


def given_before(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers 4 wrote: where some layers have a base of their own, scaling is that of the others."""
    scaling = config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, Mapping) else {}
    local = next((config[name] for name in LOCAL_NAMES if config.get(name) is not None), None)
    base = next((config[name] for name in NAMES if config.get(name) is not None), None)
    if local is None or base is None or not isinstance(config.get("layer_types"), list):
        return scaling
    return {"full_attention": {**scaling, "rope_theta": base}, "sliding_attention": {"rope_theta": local}}


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
    if parameters["rope_type"] == "default" and AXES not in parameters:
        return None
    rest = {name: value for name, value in parameters.items() if name != "rope_theta"}
    if AXES in rest:
        rest[HUNYUANS_AXES] = rest[AXES]
    return {**rest, "type": parameters.get("type") or parameters["rope_type"]}
