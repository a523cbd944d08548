"""Whisper's special tokens, looked up once: its vocabularies differ in their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_audio.stt.models.whisper.decoding import get_suppress_tokens


@dataclass(frozen=True, slots=True)
class WhisperTokens:
    """Token ids. `languages` are those by their ISO 639 codes, none in models for English alone. `never` are those that
    no transcript has, `blank` those that none begins with. Ids from `timestamp` on are times in steps of 0.02 s."""

    start: int
    end: int
    previous: int
    transcribe: int
    translate: int
    no_timestamps: int
    timestamp: int
    no_speech: int | None
    languages: Mapping[str, int]
    never: frozenset[int]
    blank: frozenset[int]

    def beginning(self, language: str, *, translate: bool) -> list[int]:
        """What a transcript begins with."""
        if not self.languages:
            return [self.start]
        return [self.start, self.languages[language], self.translate if translate else self.transcribe]


def tokens_of(model: Any) -> WhisperTokens:
    """Those of a model that mlx-audio has loaded."""
    tokenizer = model.get_tokenizer()
    languages = dict(zip(tokenizer.all_language_codes, tokenizer.all_language_tokens, strict=False))
    return WhisperTokens(
        start=tokenizer.sot,
        end=tokenizer.eot,
        previous=tokenizer.sot_prev,
        transcribe=tokenizer.transcribe,
        translate=tokenizer.translate,
        no_timestamps=tokenizer.no_timestamps,
        timestamp=tokenizer.timestamp_begin,
        no_speech=tokenizer.no_speech,
        languages=languages if model.is_multilingual else {},
        never=frozenset(get_suppress_tokens(tokenizer)),
        blank=frozenset((*tokenizer.encode(" "), tokenizer.eot)),
    )
