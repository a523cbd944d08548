"""Which voices a model has, and which one a client means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.phonemes.kokoro import LANGUAGES

OPENAI = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "fable",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)
"""OpenAI's voices: every model takes their names."""

VOICE_ENDS = (".safetensors", ".pt", ".npy", ".json")


def voices_of(folder: Path, config: Mapping[str, Any], model: Any) -> tuple[str, ...]:
    """The names of a model's voices: files in its folder `voices`, or speakers that its configuration or its class
    names. None where it has one voice without a name."""
    if (speakers := getattr(model, "supported_speakers", None)) is not None:
        return tuple(map(str, speakers))
    places = (folder / "voices", folder / "embeddings")
    files = {file.stem for place in places if place.is_dir() for file in place.iterdir() if file.suffix in VOICE_ENDS}
    named = config.get("voices") or config.get("voice_names") or ()
    return tuple(sorted(files | set(map(str, named))))


def spoken_here(voices: Sequence[str]) -> tuple[str, ...]:
    """Those of Kokoro's voices whose language can be read: English, and others where misaki is installed."""
    return tuple(voice for voice in voices if voice[0] in LANGUAGES or find_spec("misaki") is not None)


def choose(wanted: str | None, voices: Sequence[str]) -> str | None:
    """The model's name of a voice; None for its only one. Raises InvalidRequest for a voice that it does not have.

    One of OpenAI's names means the voice whose own name ends with it, else the one in the same place of the list.
    """
    if wanted is None or not voices:
        if wanted is not None and wanted not in (*OPENAI, "default"):
            raise InvalidRequest(f"`voice`: this model has one voice, 'default'; got {wanted!r}.", "voice")
        return voices[0] if voices else None
    if wanted in voices:
        return wanted
    if wanted in OPENAI:
        alike = [voice for voice in voices if voice.endswith(wanted)]
        return alike[0] if alike else voices[OPENAI.index(wanted) % len(voices)]
    known = ", ".join(voices)
    raise InvalidRequest(f"`voice`: {wanted!r} is none of this model's voices: {known}, or one of OpenAI's.", "voice")
