"""Inside types of models that hear or speak."""

from __future__ import annotations

from typing import Literal

import msgspec

SoundFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""How speech is encoded; `pcm` is 16-bit little-endian samples of one channel without a head."""


class TranscriptionRequest(msgspec.Struct, frozen=True, tag=True):
    """One ticket's work: what is said in a recording.

    `path` is the recording's file, which stays until the ticket has ended; `param` names it in a refusal. `language`
    is an ISO 639 code, None: it is heard. `translate`: into English. `prompt` is text that may have come before, with
    names spelt as wanted; `hotwords` are words to listen for. At `temperature` 0 a part that comes out badly is tried
    again at higher ones. `words`: when each word is said; `logprobs`: how sure the model is of each token.
    """

    path: str
    language: str | None = None
    translate: bool = False
    prompt: str | None = None
    hotwords: tuple[str, ...] = ()
    temperature: float = 0.0
    words: bool = False
    logprobs: bool = False
    param: str = "file"

    @property
    def rows(self) -> int:
        """It takes one place, however long it is: recordings take turns."""
        return 1


class SpeechRequest(msgspec.Struct, frozen=True, tag=True):
    """One ticket's work: a text read aloud. `voice` is the client's name for one, None: the model's first.

    `speed` is 1 for the model's own; `instructions` say how it should sound.
    """

    text: str
    format: SoundFormat
    voice: str | None = None
    speed: float = 1.0
    instructions: str | None = None

    @property
    def rows(self) -> int:
        """It takes one place."""
        return 1
