"""Rotary positions as a model's config asks for them, against those that its modules turn by.

mlx-lm 0.32 leaves parts of some configs unread: scaling in classes that know none, `truncate` and `attention_factor` of
YaRN. What differs is put right in the modules themselves, and told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.deepseek_v2 import DeepseekV2YarnRotaryEmbedding
from mlx_lm.models.hunyuan_v1_dense import DynamicNTKAlphaRoPE
from mlx_lm.models.rope_utils import Llama3RoPE, SuScaledRoPE, YarnRoPE

from mlx_server.workers.engine.loading.config_form import text_of
from mlx_server.workers.engine.loading.rope_form import rope_by_type
from mlx_server.workers.engine.loading.turning import NEEDED, Turning, plain, turning
from mlx_server.workers.folders.context_length import ORIGINAL

LAYERS_OWN = "layer_rope_theta"
"""The key of configs that give each layer its base."""

TRADITIONAL = "traditional"
"""What mlx's modules call turning neighbouring dimensions together."""

INDEXER_INTERLEAVED = "indexer_rope_interleave"
INTERLEAVED = {
    "deepseek_v3": "rope_interleave",
    "deepseek_v32": "",
    "glm4_moe_lite": "rope_interleave",
    "glm_moe_dsa": "",
    "longcat_flash": "",
}
"""Types that do so unless this key says otherwise. mlx-lm's classes never look at it, and its longrope knows no
neighbours."""

LAYER = re.compile(r"\b(?:layers|blocks|h)\.(\d+)\.")
Rotary = nn.RoPE | Llama3RoPE | YarnRoPE | SuScaledRoPE | DeepseekV2YarnRotaryEmbedding | DynamicNTKAlphaRoPE

TWO_SETS = "_long_freqs"
NEITHER = Turning(np.empty(0))
"""mlx-vlm's longrope turns the later tokens of a text otherwise than its first ones, which nobody asks for."""

OF_MLX_VLM = ("Llama3RoPE", "SuScaledRoPE", "YarnRoPE")
"""mlx-vlm has classes of its own by these names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rotary module stands."""

    path: str
    parent: Any
    name: str

    @property
    def module(self) -> Any:
        """The module."""
        return getattr(self.parent, self.name)

    @property
    def dims(self) -> int:
        """How many dimensions of a head it turns."""
        frequencies = getattr(self.module, "_freqs", getattr(self.module, TWO_SETS, None))
        return int(self.module.dims if frequencies is None else 2 * len(frequencies))


def put_right(model: Any, config: Mapping[str, Any]) -> list[str]:
    """Make the rotary positions of a model's layers those that its config asks for; returns notes on what was mended
    and on what differs still."""
    config = text_of(config)
    by_type = rope_by_type(config)
    longest = config.get("max_position_embeddings")
    mended = 0
    short = max((one.get(ORIGINAL, 0) for one in by_type.values() if one["rope_type"] == "longrope"), default=0)
    for kind, places in placed(model, config).items():
        parameters = by_type.get(kind) or by_type.get("")
        if parameters is None or not follows(places, config):
            continue
        for place in places:
            dims = turned(place.dims, parameters, config)
            wanted = turning(parameters, dims, longest)
            if wanted is None:
                continue
            neighbours = interleaved(place, config)
            if not turning_of(place.module).is_like(wanted) or neighbours != getattr(place.module, TRADITIONAL, False):
                setattr(place.parent, place.name, replacement(place.module, dims, wanted, neighbours))
                mended += 1
    return [note for note in (mended_note(mended), short_note(short)) if note]


def unscaled(model: Any, config: Mapping[str, Any]) -> list[str]:
    """What to say of a scaling that can't be put right: the model's class turns vectors with code of its own."""
    config = text_of(config)
    kinds = {one["rope_type"] for one in rope_by_type(config).values()} - {"default", "mrope"}
    if not kinds or placed(model, config):
        return []
    return [
        f"mlx-vlm may not compute the scaled rotary positions that config.json asks for ({', '.join(sorted(kinds))})"
    ]


def understood(model: Any, config: Mapping[str, Any]) -> bool:
    """Whether a model has rotary modules, and its config asks of none what `put_right` does not know."""
    config = text_of(config)
    longest = config.get("max_position_embeddings")
    asked = [turning(one, 2, longest) for one in rope_by_type(config).values() if one["rope_type"] != "longrope"]
    return bool(placed(model, config)) and None not in asked


def mended_note(layers: int) -> str:
    """What was put right."""
    return f"rotary positions of {layers} layers follow config.json, which mlx-lm reads in part" if layers else ""


def short_note(tokens: int) -> str:
    """What transformers does while a text has no more tokens than this, and a cache of rotated keys can't."""
    if not tokens:
        return ""
    return f"texts of up to {tokens} tokens are computed with the factors of longer ones (longrope)"


def placed(model: Any, config: Mapping[str, Any]) -> dict[str, list[Place]]:
    """The rotary modules of a model's layers by the type of the layer, `""` where a config has none."""
    kinds = config.get("layer_types") if "" not in rope_by_type(config) else None
    found: dict[str, list[Place]] = {}
    for path, parent in model.named_modules():
        layer = LAYER.search(f"{path}.")
        for name, module in parent.children().items():
            if layer and (isinstance(module, Rotary) or type(module).__name__ in OF_MLX_VLM):
                number = int(layer[1])
                kind = kinds[number] if isinstance(kinds, list) and number < len(kinds) else ""
                found.setdefault(kind, []).append(Place(f"{path}.{name}", parent, name))
    return found


def follows(places: list[Place], config: Mapping[str, Any]) -> bool:
    """Whether the config's parameters are meant for all these layers: some classes have rules of their own for which
    layers turn how."""
    first = turning_of(places[0].module)
    own = {base for base in config.get(LAYERS_OWN) or () if base}
    return len(own) < 2 and all(turning_of(place.module).is_like(first) for place in places)


def interleaved(place: Place, config: Mapping[str, Any]) -> bool:
    """Whether neighbouring dimensions are turned together, not those of two halves."""
    kind = str(config.get("model_type"))
    if kind not in INTERLEAVED:
        return bool(getattr(place.module, TRADITIONAL, False))
    name = INDEXER_INTERLEAVED if ".indexer." in place.path else INTERLEAVED[kind]
    return bool(config.get(name, name != INDEXER_INTERLEAVED or kind == "glm_moe_dsa"))


def turned(dims: int, parameters: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """How many dimensions of a head are to be turned, where a module turns `dims`: a class may not know that it is a
    part of them."""
    share = parameters.get("partial_rotary_factor")
    heads = config.get("num_attention_heads")
    whole = config.get("head_dim") or (config["hidden_size"] // heads if heads and "hidden_size" in config else None)
    if share is None or dims != whole or parameters["rope_type"] not in NEEDED:
        return dims
    return int(dims * share)


def turning_of(module: Any) -> Turning:
    """How a module turns."""
    if isinstance(module, nn.RoPE):
        return Turning(plain(module.base, module.dims) / module.scale)
    if hasattr(module, TWO_SETS):
        return NEITHER
    scale = module._scale if isinstance(module, SuScaledRoPE) else getattr(module, "mscale", 1.0)
    return Turning(np.array(module._freqs), float(scale))


def replacement(module: Any, dims: int, wanted: Turning, neighbours: bool) -> Any:
    """A module that turns as wanted, neighbouring dimensions or those of two halves."""
    if isinstance(module, DeepseekV2YarnRotaryEmbedding):
        module._freqs, module.mscale = mx.array(wanted.periods, mx.float32), wanted.scale
        return module
    made = YarnRoPE(dims, traditional=neighbours)
    made._freqs, made.mscale = mx.array(wanted.periods, mx.float32), wanted.scale
    return made
