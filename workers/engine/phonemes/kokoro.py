"""English for Kokoro without misaki, which mlx-audio asks for: misaki needs spaCy, a model of English that spaCy loads
from elsewhere, and a Python before 3.13."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.phonemes.espeak import TIE, phonemes
from mlx_server.workers.folders.voices import KOKORO_ENGLISH

LONGEST = 510
"""Phonemes that the model reads at once."""

ABBREVIATIONS = "".join(rf"(?<!\b{word})" for word in ("Dr", "Mr", "Mrs", "Ms", "St", "Prof", "vs"))
MARKS = re.compile(rf'(?:{ABBREVIATIONS}\.|[;:,!?…])+["”’)\]]*(?=\s|$)|\s*—\s*')
"""Punctuation that is heard, with what closes behind it, where it is no part of a number or a word."""

SILENT = re.compile(r"[^.;:,!?…—]")
"""What of it is not heard."""

ENDS = re.compile(r"[.!?…]")

SOUNDS = {
    f"e{TIE}ɪ": "A",
    f"a{TIE}ɪ": "I",
    f"o{TIE}ʊ": "O",
    f"ə{TIE}ʊ": "Q",
    f"a{TIE}ʊ": "W",
    f"ɔ{TIE}ɪ": "Y",
    f"d{TIE}ʒ": "ʤ",
    f"t{TIE}ʃ": "ʧ",
    f"ə{TIE}l": "ᵊl",
    f"e{TIE}ə": "ɛː",
    "n\u0329": "ᵊn",
    "l\u0329": "ᵊl",
    "m\u0329": "ᵊm",
    "ɐ": "ə",
    "ɬ": "l",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ʲ": "j",
}
"""How espeak-ng and Kokoro write the same sound."""

AMERICAN = {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɚɹ": "əɹ", "ɚ": "əɹ", "ɾ": "T", "ʔ": "t", "o": "ɔ", "ː": ""}
BRITISH = {"ɚ": "ə", "ɾ": "t", "ʔ": "t", "o": "ɔ"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a text that is spoken at once, and its phonemes in the model's letters."""

    text: str
    phonemes: str


class UnknownVoiceError(ValueError):
    """Raised when a model has no voice of a name."""

    def __init__(self, voice: str, voices: list[str]) -> None:
        super().__init__(f"there is no voice {voice!r}: it has {', '.join(voices)}")


class EnglishPipeline:
    """Speaks as mlx-audio's `KokoroPipeline` does, in one kind of English, with the voices of the model's folder."""

    def __init__(self, model: Any, language: str, folder: Path) -> None:
        self._model = model
        self._language = language
        self._files = {path.stem: path for path in sorted((folder / "voices").glob("*.safetensors"))}
        self.voices: dict[str, mx.array] = {}
        """mlx-audio empties it before each text."""

    def __call__(
        self, text: str, voice: str, speed: float = 1.0, split_pattern: str | None = None
    ) -> Iterator[tuple[str, str, mx.array]]:
        """A text sentence by sentence: what was said, its phonemes, and samples [1, samples] from -1 to 1 at 24 kHz.
        Raises `UnknownVoiceError`."""
        styles = self.load_voice(voice)
        for chunk in chunks(text, self._language):
            style = styles[min(len(chunk.phonemes), len(styles)) - 1]
            yield chunk.text, chunk.phonemes, self._model(chunk.phonemes, style, speed)

    def load_voice(self, voice: str) -> mx.array:
        """How it sounds, [phonemes, 1, D] for texts of each length. Raises `UnknownVoiceError`."""
        if voice not in self._files:
            raise UnknownVoiceError(voice, list(self._files))
        arrays: Any = mx.load(str(self._files[voice]))
        styles: mx.array = arrays["voice"]
        return styles


def speak_english(model: Any, folder: Path) -> None:
    """Have a Kokoro of mlx-audio's (0.6) read English by espeak-ng. `folder` has its voices."""
    for letter, language in KOKORO_ENGLISH.items():
        model._pipelines[letter] = EnglishPipeline(model, language, folder)


def chunks(text: str, language: str) -> Iterator[Chunk]:
    """A text's sentences, cut where they are longer than the model can read."""
    said, spoken = "", ""
    for piece in pieces(text):
        is_mark = MARKS.fullmatch(piece) is not None
        sounds = SILENT.sub("", piece) if is_mark else to_kokoro(phonemes(piece, language), language)
        for part in cut(sounds):
            if spoken and len(spoken) + len(part) + 1 > LONGEST:
                yield Chunk(said.strip(), spoken)
                said, spoken = "", ""
            spoken = f"{spoken}{'' if is_mark or not spoken else ' '}{part}"
        said += piece
        if is_mark and ENDS.search(piece) and re.search(r"\w", said):
            yield Chunk(said.strip(), spoken)
            said, spoken = "", ""
    if re.search(r"\w", said):
        yield Chunk(said.strip(), spoken)


def pieces(text: str) -> list[str]:
    """Words and the marks between them, in turn; a line's end ends a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    whole = " ".join(line if re.search(r"\W$", line) else f"{line}." for line in lines)
    return [piece for piece in re.split(f"({MARKS.pattern})", whole) if piece.strip()]


def cut(sounds: str) -> list[str]:
    """Phonemes in parts that the model can read, between words where there are any."""
    parts = [""]
    for word in re.findall(rf"\S{{1,{LONGEST}}}", sounds):
        if len(parts[-1]) + len(word) + 1 > LONGEST:
            parts.append("")
        parts[-1] = f"{parts[-1]} {word}".strip()
    return parts


def to_kokoro(ipa: str, language: str) -> str:
    """espeak-ng's phonemes in Kokoro's letters."""
    for written, letters in (*SOUNDS.items(), (TIE, "")):
        ipa = ipa.replace(written, letters)
    for written, letters in (AMERICAN if language == KOKORO_ENGLISH["a"] else BRITISH).items():
        ipa = ipa.replace(written, letters)
    return ipa
