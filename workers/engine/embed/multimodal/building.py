"""From a folder to one of mlx-vlm's models that see, with the weights unread."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_vlm.utils import sanitize_weights, update_module_configs

from mlx_server.workers.engine.embed.encoder_models import import_architecture, quantise, read_weights
from mlx_server.workers.engine.loading.config_form import suited

PARTS = {"VisionModel": "vision_config", "LanguageModel": "text_config"}
"""Classes that know how the weights of a part of the model are stored, and what configures them."""


def build(module_name: str, folder: Path, config: dict[str, Any]) -> Any:
    """The model. Raises ModelLoadError, or anything if the config or the weights don't fit the architecture."""
    module = import_architecture(module_name)
    # mlx-vlm's configs change the dictionaries that they are made of.
    own = copy.deepcopy(config | suited(config))
    model_config = update_module_configs(module.ModelConfig.from_dict(own), module, own, ("text", "vision"))
    model = module.Model(model_config)
    weights = sanitize_weights(model, read_weights(folder))
    for name, part in PARTS.items():
        if hasattr(module, name):
            weights = sanitize_weights(getattr(module, name), weights, getattr(model_config, part))
    fill(model, config, {name: array for name, array in weights.items() if ".lm_head." not in name})
    return model


def fill(model: Any, config: dict[str, Any], weights: dict[str, mx.array]) -> None:
    """Give a model its weights. Raises ValueError unless they are exactly those that it has places for."""
    quantise(model, config, weights)
    model.load_weights(list(weights.items()), strict=True)
    model.eval()
