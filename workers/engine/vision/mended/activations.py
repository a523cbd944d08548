"""The activation of encoders of pictures: mlx-vlm's classes have one of the GELUs built in, whatever a config says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.nn as nn

GELUS = {"gelu": "none", "gelu_pytorch_tanh": "tanh", "gelu_new": "tanh", "quick_gelu": "fast"}
"""By transformers' name, what MLX calls the way to compute it."""

USUAL = {"idefics2": "gelu_pytorch_tanh", "idefics2_vision": "gelu_pytorch_tanh"}
"""By an encoder's type, what transformers takes where a config says nothing, and mlx-vlm does not."""


def with_activations(model: Any, config: Mapping[str, Any]) -> None:
    """Have the perceptrons of an encoder compute the GELU that its config names."""
    tower = config.get("vision_config")
    tower = tower if isinstance(tower, Mapping) else {}
    named = tower.get("hidden_act") or USUAL.get(str(tower.get("model_type")))
    if named not in GELUS:
        return
    for path, module in model.named_modules():
        if "vision" in path and isinstance(getattr(module, "activation_fn", None), nn.GELU):
            module.activation_fn = nn.GELU(approx=GELUS[named])
