"""Which models hear and which speak, as mlx-audio sorts them, found out without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mlx_server.workers.folders.known_types import installed, knows

AudioKind = Literal["stt", "tts"]
"""Speech to text, or text to speech."""


def audio_kind(config: Mapping[str, Any], name: str = "") -> AudioKind | None:
    """What mlx-audio does with a model of this configuration; None for nothing, or if mlx-audio is not there.

    `name`, the folder's, counts where the configuration names no architecture, as that of Kokoro does. A type that
    mlx-lm knows too is a language model's.
    """
    if not installed("mlx_audio") or knows("mlx_lm", config):
        return None
    from mlx_audio.registry import classify_model, model_type_from_config

    try:
        model_type = model_type_from_config(dict(config))
    except TypeError:  # what a field holds is not of the type that mlx-audio takes it for
        return None
    kind = classify_model(str(model_type or ""), "" if model_type else name)
    return kind if kind in ("stt", "tts") else None
