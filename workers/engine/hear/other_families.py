"""Every model that hears and is no Whisper: its own `generate`, on one piece of a recording after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Recording, Result, Segment
from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.workers.engine.hear.family_languages import languages_of, name_of
from mlx_server.workers.engine.hear.hearing import check_language
from mlx_server.workers.engine.hear.transcription import SAMPLE_RATE, OpenedTranscription
from mlx_server.workers.engine.jobs import JobEngine, SteppedJob, refuse
from mlx_server.workers.engine.loading.audio_models import Parameters
from mlx_server.workers.engine.media.recordings import is_silent
from mlx_server.workers.engine.media.sounds import Samples

LONGEST_S = 30
"""A piece of a recording is at most so long, and ends where it is quiet."""

EARLIEST_S = 20
QUIET_SAMPLES = SAMPLE_RATE // 10

ENGLISH = "en"
LANGUAGE = ("language", "source_lang", "source_language")
CONTEXT = ("initial_prompt", "system_prompt", "context")
"""What the families call these, in mlx-audio 0.6; the first that a `generate` has is meant. Their `prompt` is an order,
without which they would not transcribe."""

TARGET = "target_lang"
"""What the language of the transcript is called where it may be another than what is spoken."""

LEAST_TOKENS, MOST_TOKENS = 448, 1024
"""Of a piece: some families would stop sooner than people do, and one that repeats itself has to end."""


class OtherFamily:
    """A loaded model. Pieces of different recordings take turns."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._takes = Parameters(model.generate)
        self.engine = JobEngine()
        self._languages = languages_of(model)
        self.languages = tuple(self._languages)

    def check(self, request: TranscriptionRequest) -> None:
        """Raises InvalidRequest."""
        check_language(request.language, self.languages)
        refuse(request.translate and TARGET not in self._takes, "model", "does not translate")
        if request.translate and request.language is None:
            raise InvalidRequest("`language`: this model has to be told what is spoken, to translate it.", "language")
        refuse(request.language is not None and not self._takes.first(LANGUAGE), "language", "is not told the language")
        refuse(request.prompt is not None and not self._takes.first(CONTEXT), "prompt", "takes no prompt")
        refuse(bool(request.hotwords) and "hotwords" not in self._takes, "hotwords", "listens for no words")
        refuse(bool(request.temperature) and "temperature" not in self._takes, "temperature", "has no temperature")
        refuse(request.words, "timestamp_granularities", "does not tell when a word is said")
        refuse(request.logprobs, "include", "does not say how sure it is")

    def job(self, ticket: int, request: OpenedTranscription) -> PieceByPiece:
        """A request's work."""
        options: dict[str, Any] = {}
        if request.language is not None:
            own = self._languages.get(request.language, request.language)
            options[self._takes.first(LANGUAGE)] = own
            if TARGET in self._takes:
                options[TARGET] = ENGLISH if request.translate else own
        if request.prompt is not None:
            options[self._takes.first(CONTEXT)] = request.prompt
        if request.hotwords:
            options["hotwords"] = list(request.hotwords)
        if request.temperature:
            options["temperature"] = request.temperature
        if isinstance(usual := self._takes.get("max_tokens"), int):
            options["max_tokens"] = min(max(usual, LEAST_TOKENS), MOST_TOKENS)
        job = PieceByPiece((ticket, 0), [], 0, request=request, model=self._model, options=options)
        job.total = -(-request.recording.samples // SAMPLE_RATE)
        return job


@dataclass(eq=False, slots=True)
class PieceByPiece(SteppedJob):
    """One request. `at` is the first sample that is not written down yet."""

    request: OpenedTranscription = field(kw_only=True)
    model: Any = field(kw_only=True, repr=False)
    options: Mapping[str, Any] = field(kw_only=True)
    at: int = 0
    announced: bool = False

    @property
    def ended(self) -> bool:
        """Everything is written down."""
        return self.at >= self.request.recording.samples

    def step(self) -> list[Result]:
        """The next piece."""
        recording = self.request.recording
        samples = recording.read(self.at, LONGEST_S * SAMPLE_RATE)
        if self.at + samples.size < recording.samples:
            samples = samples[: quiet_place(samples)]
        begin_s, end_s = self.at / SAMPLE_RATE, (self.at + samples.size) / SAMPLE_RATE
        results: list[Result] = []
        language = ""
        if not is_silent(samples):
            found = self.model.generate(mx.array(samples), **self.options)
            mx.clear_cache()
            language = name_of(getattr(found, "language", None))
            self.tokens += int(getattr(found, "generation_tokens", 0) or 0)
            results += [self._segment(one, begin_s, end_s) for one in parts_of(found)]
        self.at += samples.size
        self.done = self.at // SAMPLE_RATE
        said = [one for one in results if isinstance(one, Segment) and one.text.strip()]
        if not self.announced and (said or self.ended):
            self.announced = True
            return [Recording(*self.key, language, recording.duration_s), *said]
        return [*said]

    def _segment(self, part: tuple[str, float | None, float | None], begin_s: float, end_s: float) -> Segment:
        text, start, end = part
        if not end:  # some families say 0 where they don't know
            end = end_s - begin_s
        return Segment(
            *self.key,
            text=f" {text.strip()}",
            start_s=begin_s + (start or 0.0),
            end_s=min(begin_s + end, end_s),
            seek=self.at * 100 // SAMPLE_RATE,
        )


def parts_of(found: Any) -> list[tuple[str, float | None, float | None]]:
    """Texts with their times in seconds from the piece's beginning, as far as a family tells them. How long it took to
    find them, which one says for an end, is none."""
    several = getattr(found, "sentences", None) or getattr(found, "segments", None) or [found]
    took_s = getattr(found, "total_time", None)
    parts = [(str(value(one, "text") or ""), value(one, "start"), value(one, "end")) for one in several]
    return [(text, start, None if end == took_s else end) for text, start, end in parts]


def value(one: Any, name: str) -> Any:
    """What a dictionary or an object has under a name."""
    return one.get(name) if isinstance(one, Mapping) else getattr(one, name, None)


def quiet_place(samples: Samples) -> int:
    """After how many of the samples, [samples], to cut: in the quietest tenth of a second from EARLIEST_S on."""
    start = EARLIEST_S * SAMPLE_RATE
    count = (samples.size - start) // QUIET_SAMPLES
    loudness = np.square(samples[start : start + count * QUIET_SAMPLES].reshape(count, QUIET_SAMPLES)).sum(axis=1)
    return start + int(loudness.argmin()) * QUIET_SAMPLES + QUIET_SAMPLES // 2
