"""A workaround: rotary positions along several axes, as mlx-vlm's classes (0.7.10) have them, know no scaling.

A module holds the frequencies that its positions turn by, and what cosines and sines are multiplied by: both become
those that the config asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.workers.engine.loading.config_form import text_of
from mlx_server.workers.engine.loading.rope_form import rope_by_type
from mlx_server.workers.engine.loading.turning import Turning, turning

UNKNOWN = ("dynamic", "longrope")
"""Kinds of scaling that depend on a text's length in transformers."""


def rotary_modules(model: Any) -> list[Any]:
    """The modules of the part that writes text."""
    wanted = ("_inv_freq", "attention_scaling")
    return [module for _, module in model.named_modules() if all(hasattr(module, name) for name in wanted)]


def scaled(model: Any, config: Mapping[str, Any]) -> list[str]:
    """Scale the positions of a model's part that writes text as its config asks; notes on what was mended."""
    text = text_of(config)
    asked = rope_by_type(text).get("")
    mended = False
    for module in rotary_modules(model):
        wanted = turning(asked, 2 * len(module._inv_freq), text.get("max_position_embeddings")) if asked else None
        if wanted is None or Turning(1 / np.array(module._inv_freq), module.attention_scaling).is_like(wanted):
            continue
        module._inv_freq = mx.array(1 / wanted.periods, mx.float32)
        module.attention_scaling = wanted.scale
        # Metal's kernel multiplies by nothing.
        module.fused_apply = getattr(module, "fused_apply", False) and wanted.scale == 1
        mended = True
    return ["rotary positions of text are scaled as config.json asks, which mlx-vlm leaves out"] if mended else []


def scalable(model: Any, config: Mapping[str, Any]) -> bool:
    """Whether all that a config asks for can be done so."""
    text = text_of(config)
    asked = rope_by_type(text).get("")
    if asked is None or asked["rope_type"] in UNKNOWN:
        return False
    return bool(rotary_modules(model)) and turning(asked, 2, text.get("max_position_embeddings")) is not None
