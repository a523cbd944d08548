"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a transcript in five forms, and as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.http.errors import Answer
from mlx_server.schemas.internal.messages import Finished, Recording, Result, Segment
from mlx_server.schemas.openai.media import transcriptions as api
from mlx_server.schemas.openai.media.transcriptions import TranscriptionForm

AUDIO_TOKENS_PER_SECOND = 10
PLAIN = "text/plain; charset=utf-8"
TYPES = {"json": "application/json", "verbose_json": "application/json", "vtt": "text/vtt; charset=utf-8"}


class TranscriptEncoder:
    """One answer."""

    def __init__(self, given: TranscriptionForm, *, translate: bool) -> None:
        self._given = given
        self._translate = translate
        self._recording = Recording(0, 0, "", 0.0)
        self._segments: list[Segment] = []
        self._tokens = 0

    @property
    def media_type(self) -> str:
        """What the answer in one piece is."""
        return TYPES.get(self._given.format, PLAIN)

    def events(self, events: Iterable[Result | Finished]) -> bytes:
        """What these events are in a stream."""
        out = []
        for event in events:
            first = not self._segments
            self._take(event)
            if isinstance(event, Segment):
                text = event.text.lstrip() if first else event.text
                out.append(sse.event(api.TranscriptDelta(text, self._logprobs([event]))))
        return b"".join(out)

    def end(self) -> bytes:
        """The last event of a stream."""
        heard = round(self._recording.duration_s * AUDIO_TOKENS_PER_SECOND)
        usage = api.TokenUsage(heard, self._tokens, heard + self._tokens)
        return sse.event(api.TranscriptDone(self._text, usage, self._logprobs(self._segments)))

    def whole(self, events: Sequence[Result | Finished]) -> bytes:
        """The answer in one piece."""
        for event in events:
            self._take(event)
        match self._given.format:
            case "text":
                return f"{self._text}\n".encode()
            case "srt":
                return srt(self._segments).encode()
            case "vtt":
                return vtt(self._segments).encode()
            case "verbose_json":
                return msgspec.json.encode(self._verbose())
            case "json":
                logprobs = self._logprobs(self._segments)
                return msgspec.json.encode(api.Transcript(self._text, self._usage, logprobs))

    def error(self, answer: Answer) -> bytes:
        """A failure after the stream has begun."""
        return sse.error(answer)

    def _take(self, event: Result | Finished) -> None:
        match event:
            case Recording():
                self._recording = event
            case Segment():
                self._segments.append(event)
            case Finished():
                self._tokens = event.completion_tokens

    @property
    def _text(self) -> str:
        return "".join(one.text for one in self._segments).strip()

    @property
    def _usage(self) -> api.DurationUsage:
        return api.DurationUsage(round(self._recording.duration_s, 3))

    def _verbose(self) -> api.VerboseTranscript:
        wanted = self._given.timestamp_granularities or ["segment"]
        return api.VerboseTranscript(
            task="translate" if self._translate else "transcribe",
            language=api.ENGLISH if self._translate else self._recording.language,
            duration=round(self._recording.duration_s, 3),
            text=self._text,
            usage=self._usage,
            segments=segments(self._segments) if "segment" in wanted else msgspec.UNSET,
            words=words(self._segments) if "word" in wanted else msgspec.UNSET,
            logprobs=self._logprobs(self._segments),
        )

    def _logprobs(self, segments: Sequence[Segment]) -> list[api.TranscriptLogprob] | msgspec.UnsetType:
        if not self._given.include:
            return msgspec.UNSET
        return [
            api.TranscriptLogprob(one.text, list(one.raw), one.logprob or 0.0)
            for piece in segments
            for one in piece.logprobs
        ]


def segments(given: Sequence[Segment]) -> list[api.TranscriptSegment]:
    """Segments as OpenAI has them; what a model does not say is 0."""
    return [
        api.TranscriptSegment(
            id=number,
            seek=one.seek,
            start=round(one.start_s, 3),
            end=round(one.end_s, 3),
            text=one.text,
            tokens=list(one.tokens),
            temperature=one.temperature or 0.0,
            avg_logprob=one.avg_logprob or 0.0,
            compression_ratio=one.compression_ratio or 0.0,
            no_speech_prob=one.no_speech_prob or 0.0,
        )
        for number, one in enumerate(given)
    ]


def words(segments: Sequence[Segment]) -> list[api.TranscriptWord]:
    """All words, without the spaces round them."""
    return [
        api.TranscriptWord(one.word.strip(), round(one.start_s, 3), round(one.end_s, 3))
        for piece in segments
        for one in piece.words
    ]


def srt(segments: Sequence[Segment]) -> str:
    """SubRip."""
    return "".join(
        f"{number}\n{clock(one.start_s, ',')} --> {clock(one.end_s, ',')}\n{cue(one.text)}\n\n"
        for number, one in enumerate(segments, 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT."""
    cues = (f"{clock(one.start_s, '.')} --> {clock(one.end_s, '.')}\n{cue(one.text)}\n\n" for one in segments)
    return "WEBVTT\n\n" + "".join(cues)


def cue(text: str) -> str:
    """A segment's text in a file of subtitles, where an arrow separates times."""
    return " ".join(text.split()).replace("-->", "->")


def clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
