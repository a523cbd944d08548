"""A model's config in the form that mlx-lm's classes read.

transformers 5 writes rotary positions as `rope_parameters`, for some models by the type of a layer. Most classes of
mlx-lm 0.32 know only what earlier versions wrote beside each other: `rope_theta`, `rope_scaling`,
`partial_rotary_factor` and names of their own. Without those they fall back on a default, silently.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlx_server.workers.engine.loading.saved_form import global_layers
from mlx_server.workers.folders.context_length import ORIGINAL

NAMES = ("rope_theta", "rotary_emb_base", "global_rope_theta", "rope_global_base_freq")
"""What classes call the base of most layers."""

LOCAL_NAMES = ("rope_local_base_freq", "swa_rope_theta", "rope_local_theta", "local_rope_theta")
"""What they call that of layers with a sliding window."""

PARTIAL_NAMES = ("partial_rotary_factor", "rotary_pct")

PATTERNS = {"sliding_window_pattern": False, "global_attn_every_n_layers": True}
"""Numbers that said which layers have full attention, and whether the first has."""

MAMBA_LAYERS = ("granitemoehybrid",)
MAMBA_NAMES = {"linear_attention": "mamba", "full_attention": "attention"}
"""Types of layers whose names transformers 5 changed, and the classes that know them by those of before."""

LETTERS = ("exaone4",)
"""Classes that want the pattern as a letter for each layer, L or G."""

FLAT = ("qwen2_vl", "qwen2_5_vl", "paddleocr_vl")
"""Models that see whose classes in mlx-vlm (0.7.10) look for what is about text beside what is about pictures."""

WIDE_AS_TEXT = ("gemma3", "paligemma")
"""Models that see whose classes divide pictures' vectors by the root of a `hidden_size` beside the parts, which no
config has or which is another's: it is that of the text."""

TOWER_NAMES = {
    "qwen2_vl_vision": "qwen2_vl",
    "qwen2_5_vl_vision": "qwen2_5_vl",
    "qwen3_vl_vision": "qwen3_vl",
    "qwen3_vl_moe_vision": "qwen3_vl_moe",
    "paddleocr_vl_vision": "paddleocr_vl",
}
"""Encoders of pictures that transformers 5 calls otherwise."""

WHOLE_ROPE = ("qwen3_5_text", "qwen3_5_moe_text", "glm_ocr_text")
"""Types whose classes look for `rope_parameters` only."""

TIES = "tie_word_embeddings"
STRETCHED = ("yarn", "llama3", "longrope")
"""Kinds of scaling that begin from the length of the first training."""


DERIVED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "head_dim": lambda config: config["hidden_size"] // config["num_attention_heads"],
    "layer_norm_epsilon": lambda config: config["rms_norm_eps"],
    "n_ctx": lambda config: config["n_positions"],
    "n_inner": lambda config: 4 * config["n_embd"],
    "num_layers": lambda config: config["num_hidden_layers"],
    "block_dim": lambda config: config["hidden_size"],
    "intermediate_size": lambda config: config["expand"] * config["hidden_size"],
    "num_experts": lambda config: config["num_local_experts"],
    "rope_parameters": lambda config: rope_by_type(config)[""],
    "is_moe_layer": lambda config: [kind == "sparse" for kind in config["mlp_layer_types"]],
}
"""What follows from other keys, as transformers derives it."""

TAKEN_FOR_GRANTED: dict[str, dict[str, Any]] = {
    "gemma4_text": {"final_logit_softcapping": None},
    "apertus": {"mlp_bias": False, "post_norm": False, "qk_norm": True},
    "glm4v_moe_text": {"use_qk_norm": False},
    "glm_moe_dsa": {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1},
    "granitemoehybrid": {"position_embedding_type": "nope"},
    "solar_open": {"first_k_dense_replace": 0, "intermediate_size": 0, "partial_rotary_factor": 1.0},
}
"""By type, what transformers takes where a config says nothing, and mlx-lm's class something else or nothing."""

SCALED = ("deepseek_v2", "minicpm3")
"""Classes that look into `rope_scaling` whether there is one or not."""

NO_SCALING = {"type": "default", "factor": 1.0}

BY_PARAMETERS = ("ministral3",)
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
    if tower.get("model_type") in TOWER_NAMES:
        changes["vision_config"] = {**tower, "model_type": TOWER_NAMES[tower["model_type"]]}
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


def derived(config: Mapping[str, Any], required: Iterable[str]) -> dict[str, Any]:
    """What a class requires and a config leaves out because it follows from the rest."""
    found = {}
    for name in required:
        if name in DERIVED and config.get(name) is None:
            with contextlib.suppress(KeyError):
                found[name] = DERIVED[name](config)
    return found


def needed(arguments: type) -> list[str]:
    """The keys without which a config's class, a dataclass, can't be made."""
    no = dataclasses.MISSING
    return [one.name for one in dataclasses.fields(arguments) if one.default is no and one.default_factory is no]


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
        if config.get("model_type") in MAMBA_LAYERS:
            found["layer_types"] = [MAMBA_NAMES.get(kind, kind) for kind in kinds]
        if config.get("model_type") in LETTERS:
            found["sliding_window_pattern"] = "".join("L" if kind == "sliding_attention" else "G" for kind in kinds)
        else:
            found |= {name: n for name, first in PATTERNS.items() if (n := period(kinds, first)) is not None}
    granted = TAKEN_FOR_GRANTED.get(str(config.get("model_type")), {})
    return found | {name: value for name, value in granted.items() if config.get(name) is None}


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
