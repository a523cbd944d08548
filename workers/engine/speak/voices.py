"""Which of a model's voices a client means."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_server.schemas.internal.errors import InvalidRequest

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
