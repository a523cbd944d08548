"""How long a sequence a model's configuration allows: one rule, for models on disk and for loaded ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = (
    "max_position_embeddings",
    "max_sequence_length",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "n_ctx",
    "model_max_length",
)
"""What families call it; the first that is there counts."""


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the configuration that is about the language model, over what it leaves to the whole."""
    inner = config.get("text_config") or config.get("llm_config") or config.get("language_config")
    return {**config, **inner} if isinstance(inner, Mapping) else config


def number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is a positive integer."""
    return next((config[name] for name in names if type(config.get(name)) is int and config[name] > 0), None)


def context_length(config: Mapping[str, Any]) -> int | None:
    """Tokens that prompt and answer may have together; None where it does not say."""
    return number(text_config(config), *KEYS)


def shortest(*lengths: int | None) -> int | None:
    """The length that counts; None where nothing limits."""
    return min((length for length in lengths if length is not None), default=None)
