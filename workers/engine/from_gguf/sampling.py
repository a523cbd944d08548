"""How a GGUF file's authors would have its model sampled, as generation_config.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "general.sampling."

NAMES = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
"""What llama.cpp calls by other names than transformers."""


def recommended(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the file recommends, of what can be computed here."""
    found = {name: metadata.get(f"{PREFIX}{key}") for key, name in NAMES.items()}
    return {name: shortest(value) for name, value in found.items() if isinstance(value, int | float)}


def shortest(value: float) -> float:
    """The number that was meant by one of single precision."""
    return value if isinstance(value, int) else float(f"{value:.6g}")
