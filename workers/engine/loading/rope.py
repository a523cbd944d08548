"""Rotary positions as a model's config asks for them, against those that its modules turn by.

mlx-lm 0.32 leaves parts of some configs unread: scaling in classes that know none, `truncate` and `attention_factor` of
YaRN. What differs is put right in the modules themselves, and told.
"""

from __future__ import annotations

import math
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

from mlx_server.workers.engine.loading.config_form import rope_by_type, text_of
from mlx_server.workers.folders.context_length import ORIGINAL

LAYERS_OWN = "layer_rope_theta"
"""The key of configs that give each layer its base."""

EQUAL = 1e-4
"""Relative; float32 powers of other orders differ by less."""

LAYER = re.compile(r"\b(?:layers|h)\.(\d+)\.")
NEEDED = {
    "default": (),
    "linear": ("factor",),
    "dynamic": (),
    "llama3": ("factor", ORIGINAL),
    "yarn": ("factor", ORIGINAL),
    "longrope": ("long_factor", ORIGINAL),
}
"""What parameters must say, by their kind. Kinds of one family are not here."""

Rotary = nn.RoPE | Llama3RoPE | YarnRoPE | SuScaledRoPE | DeepseekV2YarnRotaryEmbedding | DynamicNTKAlphaRoPE


@dataclass(frozen=True, slots=True)
class Turning:
    """How queries and keys are turned: `periods` [dims / 2] are the positions that one radian takes, `scale` is what
    both are multiplied by."""

    periods: np.ndarray
    scale: float = 1.0

    def is_like(self, other: Turning) -> bool:
        """Whether nobody would see a difference."""
        same = self.periods.shape == other.periods.shape and np.allclose(self.periods, other.periods, rtol=EQUAL)
        return bool(same) and math.isclose(self.scale, other.scale, rel_tol=EQUAL)


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
        frequencies = getattr(self.module, "_freqs", None)
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
            if not turning_of(place.module).is_like(wanted):
                setattr(place.parent, place.name, replacement(place.module, dims, wanted))
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
            if layer and isinstance(module, Rotary):
                number = int(layer[1])
                kind = kinds[number] if isinstance(kinds, list) and number < len(kinds) else ""
                found.setdefault(kind, []).append(Place(f"{path}.{name}", parent, name))
    return found


def follows(places: list[Place], config: Mapping[str, Any]) -> bool:
    """Whether the config's parameters are meant for all these layers: some classes have rules of their own for which
    layers turn how."""
    first = turning_of(places[0].module)
    return LAYERS_OWN not in config and all(turning_of(place.module).is_like(first) for place in places)


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
    scale = module._scale if isinstance(module, SuScaledRoPE) else getattr(module, "mscale", 1.0)
    return Turning(np.array(module._freqs), float(scale))


def plain(base: float, dims: int) -> np.ndarray:
    """Periods float64 [dims / 2] without scaling, in positions per radian."""
    return np.asarray(float(base) ** (np.arange(0, dims, 2) / dims))


def turning(parameters: Mapping[str, Any], dims: int, longest: int | None) -> Turning | None:
    """What parameters ask for in `dims` dimensions of a model for `longest` tokens, as transformers computes it; None
    where that is not known here. What depends on a text's length is that of a long one that the model still can read.
    """
    base, needed = parameters.get("rope_theta"), NEEDED.get(parameters["rope_type"])
    if not isinstance(base, int | float) or needed is None or not all(name in parameters for name in needed):
        return None
    periods = plain(base, dims)
    match parameters["rope_type"]:
        case "linear":
            return Turning(periods * parameters["factor"])
        case "llama3":
            return Turning(llama3(periods, parameters))
        case "yarn":
            return Turning(yarn(periods, parameters), yarn_scale(parameters))
        case "dynamic" if parameters.get("alpha"):  # Hunyuan's, which does not depend on a text's length
            return Turning(plain(base * parameters["alpha"] ** (dims / (dims - 2)), dims))
        case "longrope":
            factors = np.broadcast_to(np.asarray(parameters["long_factor"], dtype=float), periods.shape)
            return Turning(periods * factors, longrope_scale(parameters, longest))
        case _:
            return Turning(periods)


def llama3(periods: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """Periods float64 [dims / 2], in positions per radian, scaled as in Llama 3.1: long ones by `factor`, short ones
    not, and those between gradually."""
    turns = parameters[ORIGINAL] / (2 * np.pi * periods)
    low, high = parameters.get("low_freq_factor", 1.0), parameters.get("high_freq_factor", 4.0)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(periods / ((1 - smooth) / parameters["factor"] + smooth))


def yarn(periods: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """Periods float64 [dims / 2], in positions per radian, scaled by NTK by parts (Peng et al., 2023); the ramp's ends
    are whole numbers unless `truncate` is false."""
    dims, base = 2 * len(periods), parameters["rope_theta"]

    def dimension(turns: float) -> float:
        return dims * math.log(parameters[ORIGINAL] / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(parameters.get("beta_fast") or 32), dimension(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    ramp = np.clip((np.arange(len(periods)) - low) / ((high - low) or 0.001), 0, 1)
    return np.asarray(periods / (ramp / parameters["factor"] + 1 - ramp))


def yarn_scale(parameters: Mapping[str, Any]) -> float:
    """What cosines and sines are multiplied by."""
    given, log = parameters.get("attention_factor"), math.log(max(parameters["factor"], 1))
    if given is not None:
        return float(given)
    mscale, of_all = parameters.get("mscale"), parameters.get("mscale_all_dim")
    if mscale and of_all:
        return float((0.1 * mscale * log + 1) / (0.1 * of_all * log + 1))
    return 0.1 * log + 1


def longrope_scale(parameters: Mapping[str, Any], longest: int | None) -> float:
    """What cosines and sines are multiplied by."""
    original, given = parameters[ORIGINAL], parameters.get("attention_factor")
    factor = parameters.get("factor") or (longest or original) / original
    if given is not None:
        return float(given)
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def replacement(module: Any, dims: int, wanted: Turning) -> Any:
    """A module that turns as wanted."""
    if isinstance(module, DeepseekV2YarnRotaryEmbedding):
        module._freqs, module.mscale = mx.array(wanted.periods, mx.float32), wanted.scale
        return module
    made = YarnRoPE(dims, traditional=getattr(module, "traditional", False))
    made._freqs, made.mscale = mx.array(wanted.periods, mx.float32), wanted.scale
    return made
