"""What torch's side and MLX's have in common: numpy and the standard library suffice for it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

LENGTH = 320
SHORT = 100
"""A prompt's tokens: more than twice those of the first training, or fewer."""

COLUMNS = 16
"""Logits that are kept of each position."""

VOCABULARY = 160
EXPERTS = 4


OUTPUT_LAYERS = ("lm_head.weight", "embed_out.weight", "output.weight")
"""Weights that are not in the files of models whose embedding takes their place."""


def ids(variant: str) -> np.ndarray:
    """A variant's prompt, no token of which is special."""
    length = SHORT if variant.endswith("short") else LENGTH
    return np.random.default_rng(length).integers(3, VOCABULARY, length)


def positions(prompt: np.ndarray) -> list[int]:
    """Where logits are compared: near the beginning, in the midst, at the end."""
    return [1, len(prompt) // 3, len(prompt) - 1]


def kept(config: Mapping[str, Any], made: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights in the file of a model with this config."""
    tied = config.get("tie_word_embeddings")
    return {name: array for name, array in made.items() if not (tied and name.endswith(OUTPUT_LAYERS))}


def weights(shapes: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    """Random float32 weights by their names, so large that positions matter to every logit."""
    return {name: weight(name, tuple(shape)) for name, shape in shapes.items()}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One of them: the same wherever it is made. Tables of numbers of experts are integers."""
    if name.endswith("tid2eid"):
        return np.random.default_rng(zlib.crc32(name.encode())).integers(0, EXPERTS, shape)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if "A_log" in name:
        made = np.log(1 + 7 * np.abs(np.tanh(noise)))
    elif len(shape) < 2:
        made = 0.2 * noise if "bias" in name or "sinks" in name else 1 + 0.1 * noise
    elif len(shape) > 3 or "patch_embed" in name:
        made = noise * (1.4 / math.sqrt(math.prod(shape[1:])))
    elif any(part in name for part in ("embed", "wte", "embd")):
        made = noise
    else:
        made = noise * (1.4 / math.sqrt(math.prod(shape[1:])) if len(shape) == 2 else 1 / math.sqrt(shape[-1]))
    return np.asarray(made, dtype=np.float32, order="C")


def as_before(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """A config of transformers 5 as version 4 wrote it; None where it had no such form."""
    given = config.get("rope_parameters")
    if not isinstance(given, dict):
        return None
    rest = {name: value for name, value in config.items() if name not in ("rope_parameters", "transformers_version")}
    if not any(isinstance(value, dict) for value in given.values()):
        return rest | before(given)
    if set(given) != {"full_attention", "sliding_attention"}:
        return None
    return rest | before(given["full_attention"]) | {"rope_local_base_freq": given["sliding_attention"]["rope_theta"]}


def before(given: Mapping[str, Any]) -> dict[str, Any]:
    """One set of parameters by the names of transformers 4."""
    beside = {name: given[name] for name in ("rope_theta", "partial_rotary_factor") if name in given}
    scaling = {name: value for name, value in given.items() if name not in beside}
    plain = given.get("rope_type", "default") == "default" and set(scaling) <= {"rope_type", "type"}
    return {**beside, "rope_scaling": None if plain else scaling}
