"""English for KittenTTS without phonemizer, which mlx-audio (0.6) asks for: it needs an espeak-ng of the system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mlx_server.workers.engine.phonemes.espeak import TIE, phonemes

LANGUAGE = "en-us"
MARKS = re.compile(r"\s*([;:,.!?¡¿—…\"«»“”]+)\s*")


class Phonemizer:
    """What mlx-audio's model calls in phonemizer's place."""

    def phonemize(self, texts: Sequence[str]) -> list[str]:
        """Texts as the international phonetic alphabet writes them, with marks of stress and their punctuation."""
        return ["".join(map(sounds, MARKS.split(text))) for text in texts]


def sounds(piece: str) -> str:
    """The phonemes of words; of punctuation itself, with the space behind it."""
    return f"{piece} " if MARKS.fullmatch(piece) else phonemes(piece, LANGUAGE).replace(TIE, "")


def speak_english(model: Any) -> None:
    """Have a KittenTTS of mlx-audio's read English by espeak-ng."""
    model._phonemizer = Phonemizer()
