"""Which architectures mlx-lm and mlx-vlm know, found out without importing them, which takes seconds."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

Library = Literal["mlx_lm", "mlx_vlm"]

DRAFTERS = "speculative/drafters"
"""Where mlx-vlm has parts that draft for one model from the hidden states of its layers: MTP heads, EAGLE-3, DFlash."""

HOLD_HEADS = ("qwen3_5", "qwen3_5_moe", "qwen3_next")
"""Types whose makers publish an MTP head with the model, and mlx-vlm can take it out."""

PLACES: dict[Library, tuple[str, ...]] = {"mlx_lm": ("models",), "mlx_vlm": ("models", DRAFTERS)}
"""Where each has them: a module for an architecture."""

REMAPPING = "MODEL_REMAPPING"
"""What both call the types that a module of another name stands for, in their `utils`."""

TEXT_PARTS = {"gemma3n_text": "gemma3n", "qwen3_5_text": "qwen3_5", "qwen3_5_moe_text": "qwen3_5_moe"}
"""The parts of models that see or hear which write text, as transformers 5 saves them by themselves, and the modules of
mlx-lm (0.32.2) that compute them."""


def installed(library: Library | Literal["mlx_audio"]) -> bool:
    """Whether it is there."""
    return find_spec(library) is not None


def knows(library: Library, config: Mapping[str, Any]) -> bool:
    """Whether it has the architecture that a configuration names."""
    name = str(config.get("model_type"))
    if library == "mlx_vlm":
        name = name.lower()
    if name in modules(library):
        return True
    name = module_of(library, name)
    return name in modules(library) or hooked(library, name)


def drafts(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of a part that drafts for one model."""
    if config.get("dflash_config") is not None:
        return True
    paths = [str(folder / DRAFTERS) for folder in folders("mlx_vlm")]
    name = config.get("model_type") or config.get("speculators_model_type")
    return str(name).lower() in {module.name for module in iter_modules(paths)}


def holds_head(config: Mapping[str, Any], tensors: Iterable[str]) -> bool:
    """Whether among a model's weights is a part that drafts for it."""
    return module_of("mlx_lm", str(config.get("model_type"))) in HOLD_HEADS and any(
        name.startswith("mtp.") for name in tensors
    )


def module_of(library: Library, model_type: str) -> str:
    """The name of the module that computes a type, if there is one."""
    parts = TEXT_PARTS if library == "mlx_lm" else {}
    return {**parts, **remapping(library)}.get(model_type, model_type)


def hooked(library: Library, name: str) -> bool:
    """Whether something that is hooked into Python's imports brings an architecture of one's own."""
    return any(finder.find_spec(f"{library}.models.{name}", []) is not None for finder in sys.meta_path)


@cache
def modules(library: Library) -> frozenset[str]:
    """The modules of its architectures."""
    paths = [str(folder / place) for folder in folders(library) for place in PLACES[library]]
    return frozenset(module.name for module in iter_modules(paths))


@cache
def remapping(library: Library) -> Mapping[str, str]:
    """Types by names that differ from their modules'."""
    for folder in folders(library):
        for node in ast.parse((folder / "utils.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == REMAPPING:
                return dict(ast.literal_eval(node.value))
    return {}


def folders(library: Library) -> list[Path]:
    """Where it lies."""
    spec = find_spec(library)
    return [Path(place) for place in spec.submodule_search_locations or ()] if spec is not None else []
