"""How fast a model can write at most on some chips, from what its weights weigh. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlx_server.app.hub.model import HubModel


@dataclass(frozen=True)
class Chip:
    """`bandwidth` of its memory in bytes a second, and the most memory it is sold with, in bytes."""

    bandwidth: float
    memory: float


CHIPS = {"m1": Chip(68.25e9, 16e9), "m2": Chip(100e9, 24e9), "m3": Chip(100e9, 24e9)}
"""The plain ones of each generation, as Apple's specifications have them (support.apple.com/specs)."""

EXPERTS = re.compile(
    r"moe|mixtral|gpt[_-]oss|deepseek[_-]?v|(?<![a-z\d])a\d+(?:\.\d+)?b(?![a-z\d])|\d+x\d+b", re.IGNORECASE
)


def tokens_per_s(model: HubModel, chip: Chip) -> float | None:
    """What the chip's memory allows one request: every token reads all weights once, and nothing is faster than that.

    None where that is not known or not so: no text is written, the size is unknown, the model does not fit, or it is a
    mixture of experts, of which only some are read.
    """
    if model.model_type not in ("text", "vision", "multimodal") or not model.size_bytes or mixes_experts(model):
        return None
    if not model.memory_fit(int(chip.memory)):
        return None
    return round(chip.bandwidth / model.size_bytes, 1)


def mixes_experts(model: HubModel) -> bool:
    """Whether its name or its architecture says so."""
    return any(EXPERTS.search(text) for text in (model.id, model.architecture or "", *model.tags))
