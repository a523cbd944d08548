"""What configs leave out, as transformers fills it in: mlx-lm's and mlx-vlm's classes want it, or take something else.

Seen with mlx-lm 0.32.2, mlx-vlm 0.7.10 and transformers 5.24.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlx_server.workers.engine.loading.rope_form import rope_by_type

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
    "rotary_dim": lambda config: int(config["head_dim"] * rope_by_type(config)[""].get("partial_rotary_factor", 1)),
    "is_moe_layer": lambda config: [kind == "sparse" for kind in config["mlp_layer_types"]],
}
"""What follows from other keys, as transformers derives it."""

TAKEN_FOR_GRANTED: dict[str, dict[str, Any]] = {
    "gemma4_text": {"final_logit_softcapping": None},
    "apertus": {"mlp_bias": False, "post_norm": False, "qk_norm": True},
    "glm4v_moe_text": {"use_qk_norm": False},
    "glm_moe_dsa": {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1},
    "granitemoehybrid": {"position_embedding_type": "nope"},
    "llama4_vision_model": {"vision_feature_layer": -1},
    "minimax_m2": {"shared_intermediate_size": 0},
    "solar_open": {"first_k_dense_replace": 0, "intermediate_size": 0, "partial_rotary_factor": 1.0},
}
"""By type, what transformers takes where a config says nothing, and mlx-lm's class something else or nothing."""

FOLLOWS: dict[str, dict[str, Callable[[Mapping[str, Any]], Any]]] = {
    "deepseek_v4": {
        "num_hash_layers": lambda config: config["mlp_layer_types"].count("hash_moe"),
        "compress_ratios": lambda config: [config["compress_rates"].get(kind, 0) for kind in config["layer_types"]],
    },
    "flint": {"no_rope_layer_indices": lambda config: full_layers(config["layer_types"])},
    "kimi_k25": {"image_token_index": lambda config: config["image_token_id"]},
    "kimi_k25_vision": {
        "depth": lambda config: config["num_hidden_layers"],
        "embed_dim": lambda config: config["hidden_size"],
        "num_heads": lambda config: config["num_attention_heads"],
        "init_pos_emb_height": lambda config: config["pos_emb_height"],
        "init_pos_emb_width": lambda config: config["pos_emb_width"],
    },
    "llama4_vision_model": {"rope_theta": lambda config: config["rope_parameters"]["rope_theta"]},
    "hrm_text": {"num_key_value_heads": lambda config: config["num_attention_heads"]},
}
"""The same where it follows from other keys."""


def granted(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers takes where a config says nothing, and its class would not."""
    kind = str(config.get("model_type"))
    found = {name: value for name, value in TAKEN_FOR_GRANTED.get(kind, {}).items() if config.get(name) is None}
    for name, follows in FOLLOWS.get(kind, {}).items():
        if config.get(name) is None:
            with contextlib.suppress(KeyError):
                found[name] = follows(config)
    return found


def full_layers(kinds: Iterable[str]) -> list[int]:
    """The numbers of the layers with full attention."""
    return [number for number, kind in enumerate(kinds) if kind == "full_attention"]


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
