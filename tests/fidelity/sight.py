"""What torch's side and MLX's have in common where models see: prompts with a picture, and what stands for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fidelity.tiny import VOCABULARY, as_before, weight

BEFORE, AFTER = 3, 150
"""Tokens of text before the picture and after it."""

FIRST_PLAIN = 16
"""Ids below are special, pictures' among them."""

PICTURE, START, END = 5, 3, 4
"""The ids that stand for a picture, and round it."""


def plain(length: int, seed: int) -> list[int]:
    """So many tokens of text."""
    return np.random.default_rng(seed).integers(FIRST_PLAIN, VOCABULARY, length).tolist()


def seeing(picture: Sequence[int]) -> list[int]:
    """A prompt with a picture."""
    return [*plain(BEFORE, 1), *picture, *plain(AFTER, 2)]


def reading() -> list[int]:
    """One without."""
    return plain(BEFORE + AFTER, 3)


def positions(prompt: Sequence[int]) -> list[int]:
    """Where logits are compared: soon after the picture, in the midst, at the end."""
    return [len(prompt) - AFTER + 1, len(prompt) - AFTER // 2, len(prompt) - 1]


def arrays(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What a processor gives beside the tokens: numbers as they are, and pixels that follow from their shape."""
    return {
        name: np.tanh(weight(f"embed {name}", tuple(value["shape"]))) if isinstance(value, dict) else np.array(value)
        for name, value in given.items()
    }


def seen_before(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """A config of transformers 5 with rotary positions of text as version 4 wrote them; None where it had no such
    form."""
    text = config.get("text_config")
    if not isinstance(text, dict):
        return as_before(config)
    old = as_before(text)
    return None if old is None else {**config, "text_config": old}
