"""`/v1/audio/transcriptions` and `/v1/audio/translations`: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.schemas.parsing.forms import FormDecoder

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Hint = Annotated[str, Meta(max_length=256)]

HARMLESS: dict[str, tuple[str, ...]] = {"known_speaker_names": (), "known_speaker_references": ()}
"""Parameters that are known and not served, whatever they say: no model here tells speakers apart."""

ENGLISH = "english"


class TranscriptionForm(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a form beside its `file`. Lists are repeated fields.

    `keywords` and `hotwords` are words to listen for. `chunking_strategy` may only be `auto`: the model finds by itself
    where to cut.
    """

    model: Annotated[str, Meta(max_length=256)] | None = None
    language: Annotated[str, Meta(min_length=1, max_length=32)] | None = None
    languages: list[Hint] = []
    prompt: str | None = None
    response_format: TranscriptFormat | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    timestamp_granularities: list[Literal["word", "segment"]] = []
    include: list[Literal["logprobs"]] = []
    stream: bool | None = None
    chunking_strategy: Literal["auto"] | None = None
    hotwords: Annotated[list[Hint], Meta(max_length=1000)] = []
    keywords: Annotated[list[Hint], Meta(max_length=1000)] = []
    user: str | None = None

    @property
    def ignored(self) -> list[str]:
        """Fields that change nothing."""
        return [] if self.chunking_strategy is None else ["chunking_strategy"]

    @property
    def format(self) -> TranscriptFormat:
        """What the answer is."""
        return self.response_format or "json"

    def to_work(self, path: str, *, translate: bool) -> TranscriptionRequest:
        """The inside type, for a recording that lies at `path`. Raises InvalidRequest for fields that don't go
        together."""
        words = "word" in self.timestamp_granularities
        if self.timestamp_granularities and self.format != "verbose_json":
            raise InvalidRequest(
                "`timestamp_granularities`: times are in answers with `response_format` 'verbose_json' only.",
                "timestamp_granularities",
            )
        if self.stream and self.format not in ("json", "text"):
            raise InvalidRequest(
                f"`response_format`: a stream can't be {self.format!r}; allowed are 'json', 'text'.", "response_format"
            )
        if self.include and self.format not in ("json", "verbose_json"):
            raise InvalidRequest("`include`: 'logprobs' need `response_format` 'json' or 'verbose_json'.", "include")
        if len(self.languages) > 1 or (self.languages and self.language not in (None, self.languages[0])):
            raise InvalidRequest("`languages`: only one language can be named.", "languages")
        return TranscriptionRequest(
            path=path,
            language=self.language or next(iter(self.languages), None),
            translate=translate,
            prompt=self.prompt or None,
            hotwords=(*self.hotwords, *self.keywords),
            temperature=self.temperature or 0.0,
            words=words,
            logprobs=bool(self.include),
        )


class DurationUsage(msgspec.Struct, frozen=True):
    """What was heard, in seconds."""

    seconds: float
    type: Literal["duration"] = "duration"


class TranscriptLogprob(msgspec.Struct, frozen=True):
    """A token of the transcript; `logprob` in nats, `bytes` of its text."""

    token: str
    bytes: list[int]
    logprob: float


class Transcript(msgspec.Struct, frozen=True):
    """`json`."""

    text: str
    usage: DurationUsage
    logprobs: list[TranscriptLogprob] | msgspec.UnsetType = msgspec.UNSET


class TranscriptSegment(msgspec.Struct, frozen=True):
    """A piece of a transcript; times in seconds, `seek` in hundredths of one."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class TranscriptWord(msgspec.Struct, frozen=True):
    """When a word is said, in seconds."""

    word: str
    start: float
    end: float


class VerboseTranscript(msgspec.Struct, frozen=True):
    """`verbose_json`. `language` is its English name, as OpenAI has it; `duration` in seconds."""

    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    usage: DurationUsage
    segments: list[TranscriptSegment] | msgspec.UnsetType = msgspec.UNSET
    words: list[TranscriptWord] | msgspec.UnsetType = msgspec.UNSET
    logprobs: list[TranscriptLogprob] | msgspec.UnsetType = msgspec.UNSET


class TranscriptDelta(msgspec.Struct, frozen=True, tag="transcript.text.delta", tag_field="type"):
    """The next piece of a transcript in a stream."""

    delta: str
    logprobs: list[TranscriptLogprob] | msgspec.UnsetType = msgspec.UNSET


class TokenUsage(msgspec.Struct, frozen=True):
    """OpenAI's streams count tokens: a token of sound is 0.1 s, as OpenAI bills it."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    type: Literal["tokens"] = "tokens"


class TranscriptDone(msgspec.Struct, frozen=True, tag="transcript.text.done", tag_field="type"):
    """The end of a stream: all of the transcript."""

    text: str
    usage: TokenUsage
    logprobs: list[TranscriptLogprob] | msgspec.UnsetType = msgspec.UNSET


TranscriptEvent = TranscriptDelta | TranscriptDone

LISTS = ("timestamp_granularities", "include", "hotwords", "keywords", "languages")
decoder = FormDecoder(TranscriptionForm, ("file",), LISTS, HARMLESS)
