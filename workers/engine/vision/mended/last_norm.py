"""Cohere 2 Vision: an encoder's last states are normalised before they are tokens. mlx-vlm's class leaves it out."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

NORMED = ("cohere2_vision",)


class NormedProjector(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Takes the place of the class's projector, and has its weights. The norm stays the encoder's."""

    def __init__(self, projector: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.projector, self._norm = projector, norm

    def __call__(self, states: mx.array) -> mx.array:
        """Tokens of a picture of the encoder's states [B, N, C]."""
        found: mx.array = self.projector(self._norm(states))
        return found


def with_last_norm(model: Any, kind: str) -> None:
    """Have a model of such a type normalise them."""
    if kind in NORMED:
        norm = model.vision_tower.vision_model.post_layernorm
        model.multi_modal_projector = NormedProjector(model.multi_modal_projector, norm)
