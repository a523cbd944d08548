"""Models that make vectors or scores, with mlx-vlm's classes.

Its own loader is not used: it executes a `model_file` that the config names, evaluates at once, and can't read
sentence-transformers' layers beside a BERT.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_server.workers.engine.embed.half_masks import with_finite_masks
from mlx_server.workers.engine.embed.inputs.job import Item
from mlx_server.workers.engine.loading.config_form import period, suited
from mlx_server.workers.engine.loading.json_file import read_json
from mlx_server.workers.engine.loading.left_out import derived, needed
from mlx_server.workers.engine.loading.rope_form import rope_by_type
from mlx_server.workers.engine.runtime.gelu import with_exact_gelu
from mlx_server.workers.errors import ModelLoadError, one_line
from mlx_server.workers.extras import install_line
from mlx_server.workers.folders.context_length import context_length
from mlx_server.workers.folders.encoder_types import ARCHITECTURES, ENCODERS, model_type, not_served
from mlx_server.workers.folders.model_files import weight_files

BOTH_WAYS = ("gemma3_text", "lfm2", "ministral3")
"""Decoders that mlx-vlm's classes let read in both directions."""


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json. Raises ModelLoadError, also for one that wants code of its own to be run."""
    if not (folder / "config.json").is_file():
        raise ModelLoadError(f"{folder} is not a model: it has no config.json")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelLoadError(f"{folder / 'config.json'} is not an object")
    architecture = ARCHITECTURES.get(model_type(config))
    code = ("model_file",) if architecture and architecture.stands_in else ("model_file", "auto_map")
    if wanted := [key for key in code if config.get(key)]:
        raise ModelLoadError(f"{folder} can't be loaded: its {wanted[0]} names code of its own, which is never run")
    return config


def read_encoder(folder: Path, config: dict[str, Any], class_name: str = "Model") -> Any:
    """The model with its weights unread. Raises ModelLoadError."""
    kind = model_type(config)
    known = ARCHITECTURES if class_name == "Model" else ENCODERS
    if kind not in known:
        raise ModelLoadError(f"{folder} {not_served(kind, known)}")
    architecture = ARCHITECTURES[kind]
    activation = config.get("hidden_act") or config.get("hidden_activation")
    if architecture.activation and activation not in (None, architecture.activation):
        raise ModelLoadError(f"{folder} can't be loaded: it has the activation {activation!r}, and only gelu is served")
    if asked := out_of_reach(config):
        raise ModelLoadError(f"{folder} can't be loaded: its config.json asks for {asked}, which mlx-vlm can't compute")
    module = import_architecture(architecture.module)
    try:
        changed = config | suited(config)
        changed |= derived(changed, needed(module.ModelConfig))
        model = getattr(module, class_name)(module.ModelConfig.from_dict(changed))
        weights = model.sanitize(read_weights(folder))
        # Gemma's class has dense layers of one form; those in folders beside the weights are read like anyone's.
        if hasattr(model, "dense") and not any(name.startswith("dense.") for name in weights):
            model.dense = []
        quantise(model, config, weights)
        model.load_weights(list(weights.items()), strict=True)
    # A config or weights that don't fit the architecture raise anything.
    except Exception as error:
        raise ModelLoadError(f"{folder} can't be loaded: {one_line(error)}") from error
    model.eval()
    if kind == "modernbert":
        model = with_finite_masks(model)
    return with_exact_gelu(model) if architecture.activation else model


def import_architecture(name: str) -> ModuleType:
    """mlx-vlm's module. Raises ModelLoadError where mlx-vlm is missing."""
    try:
        return import_module(f"mlx_vlm.models.{name}")
    except ImportError as error:
        raise ModelLoadError(f"this kind of model needs mlx-vlm ({one_line(error)}): {install_line('vlm')}") from None


def read_weights(folder: Path) -> dict[str, mx.array]:
    """All weights of a folder by name, lazy. Raises ModelLoadError."""
    files = weight_files(folder)
    if not files:
        raise ModelLoadError(f"{folder} has no weights in safetensors files")
    weights: dict[str, mx.array] = {}
    for path in files:
        weights |= read_tensors(path)
    return weights


def read_tensors(path: Path) -> dict[str, mx.array]:
    """A file's tensors by name, lazy."""
    tensors = mx.load(str(path))
    assert isinstance(tensors, dict)
    return tensors


def quantise(model: nn.Module, config: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Replace the layers that have scales among `weights` by quantised ones, as the config's `quantization` says."""
    settings = config.get("quantization")
    if settings is None:
        return

    def how(path: str, module: Any) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized") or f"{path}.scales" not in weights:
            return False
        own = settings.get(path)
        return own if isinstance(own, dict) else True

    mode = settings.get("mode", "affine")
    nn.quantize(model, settings["group_size"], settings["bits"], mode=mode, class_predicate=how)


def out_of_reach(config: dict[str, Any]) -> str | None:
    """What a config asks for and mlx-vlm's class (0.7) would leave out without a word; None where it does all."""
    kind, kinds = model_type(config), config.get("layer_types")
    if kind == "modernbert" and isinstance(kinds, list) and period(kinds, first=True) is None:
        return "full attention in layers that do not follow from a pattern (layer_types)"
    scalings = {name: one["rope_type"] for name, one in rope_by_type(config).items() if one["rope_type"] != "default"}
    if kind == "modernbert" and scalings:
        return f"scaled rotary positions ({', '.join(sorted(set(scalings.values())))})"
    if kind == "qwen3" and config.get("is_causal") is False:
        return "tokens that see those behind them (is_causal)"
    return None


def caveats(config: dict[str, Any]) -> list[str]:
    """Where mlx-vlm's class (0.7) computes something else than the model's authors, or than transformers."""
    kind, window, notes = model_type(config), config.get("sliding_window") or 0, []
    shorter = 0 < window < (context_length(config) or window)
    if kind == "gemma3_text" and shorter:
        notes.append(
            f"inputs of more than {window // 2} tokens see all of themselves in every layer, not only a window"
        )
    if shorter and (kind == "ministral3" or (kind == "qwen3" and "sliding_attention" in config.get("layer_types", ()))):
        notes.append(
            f"in inputs of more than {window} tokens, these see further than the window that config.json names"
        )
    if kind in BOTH_WAYS and not says_both_ways(config):
        notes.append("tokens see those behind them, too, which config.json and transformers' class do not say")
    return notes


def says_both_ways(config: dict[str, Any]) -> bool:
    """Whether a config says of a decoder that it was made to read in both directions."""
    causal = config.get("is_causal") is not False and config.get("use_bidirectional_attention") is not True
    # Of LFM2, transformers' convolutions go one way whatever a config says.
    return not causal and model_type(config) != "lfm2"


def padded(items: Several[Item], padding: int = 0) -> tuple[mx.array, mx.array, mx.array]:
    """Token ids, mask (1 for a token, 0 for padding) and token types, int32 [B, L] each; padding is on the right."""
    shape = len(items), max(len(item.ids) for item in items)
    mask, types = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    ids = np.full(shape, padding, dtype=np.int32)
    for row, item in enumerate(items):
        ids[row, : len(item.ids)] = item.ids
        mask[row, : len(item.ids)] = 1
        if item.types is not None:
            types[row, : len(item.ids)] = item.types
    return mx.array(ids), mx.array(mask), mx.array(types)
