"""`/v1/audio/speech` and `/v1/audio/voices`: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.sound import SoundFormat, SpeechRequest

HARMLESS: dict[str, tuple[Any, ...]] = {"stream": (True,)}
"""Parameters of other servers that are known and not served, with the values that change nothing."""

MEDIA_TYPES: dict[SoundFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


class VoiceId(msgspec.Struct, frozen=True):
    """A voice by its id."""

    id: str


class SpeechCreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request for speech. `speed` is 1 for the model's own; `stream_format` says whether the answer is
    the sound itself or server-sent events with its pieces in base64."""

    input: Annotated[str, Meta(min_length=1)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    voice: Annotated[str, Meta(max_length=256)] | VoiceId | None = None
    instructions: Annotated[str, Meta(max_length=4096)] | None = None
    response_format: SoundFormat | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4.0)] | None = None
    stream_format: Literal["audio", "sse"] | None = None
    user: str | None = None

    @property
    def format(self) -> SoundFormat:
        """How it is encoded."""
        return self.response_format or "mp3"

    def to_work(self, most_characters: int) -> SpeechRequest:
        """The inside type. Raises InvalidRequest for too long a text."""
        if len(self.input) > most_characters:
            raise InvalidRequest(
                f"`input`: at most {most_characters} characters are allowed, got {len(self.input)}"
                " (--max-speech-characters).",
                "input",
            )
        return SpeechRequest(
            text=self.input,
            format=self.format,
            voice=self.voice.id if isinstance(self.voice, VoiceId) else self.voice,
            speed=self.speed or 1.0,
            instructions=self.instructions or None,
        )


class SpeechDelta(msgspec.Struct, frozen=True, tag="speech.audio.delta", tag_field="type"):
    """The next bytes of the sound, in base64."""

    audio: str


class SpeechUsage(msgspec.Struct, frozen=True):
    """Characters that were read, and tokens that the model wrote for them, where it counts any."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class SpeechDone(msgspec.Struct, frozen=True, tag="speech.audio.done", tag_field="type"):
    """The end of the sound."""

    usage: SpeechUsage


class Voice(msgspec.Struct, frozen=True):
    """A voice of a model."""

    id: str
    name: str
    model: str
    object: Literal["audio.voice"] = "audio.voice"


class VoiceList(msgspec.Struct, frozen=True):
    """Those of the models that may be named, loaded or not; `voices` are the names that `voice` may be."""

    data: list[Voice]
    voices: list[str]
    object: Literal["list"] = "list"


decoder = msgspec.json.Decoder(SpeechCreateRequest)
