"""How rotary positions turn queries and keys, from the parameters of a config, as transformers computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_server.workers.folders.context_length import ORIGINAL

EQUAL = 1e-4
"""Relative; float32 powers of other orders differ by less."""

NEEDED = {
    "default": (),
    "linear": ("factor",),
    "dynamic": (),
    "llama3": ("factor", ORIGINAL),
    "yarn": ("factor", ORIGINAL),
    "longrope": ("long_factor", ORIGINAL),
}
"""What parameters must say, by their kind. Kinds of one family are not here."""


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
