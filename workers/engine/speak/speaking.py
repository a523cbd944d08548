"""Models that speak: mlx-audio's `generate`, on one sentence of a text after the other."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Result, Sound
from mlx_server.schemas.internal.sound import SoundFormat, SpeechRequest
from mlx_server.workers.engine.jobs import JobEngine, SteppedJob, refuse
from mlx_server.workers.engine.loading.audio_models import Parameters
from mlx_server.workers.engine.media.sounds import Samples
from mlx_server.workers.engine.speak.sentences import is_spoken, sentences
from mlx_server.workers.engine.speak.sound_encoder import SoundEncoder
from mlx_server.workers.engine.speak.voices import choose
from mlx_server.workers.folders.voices import KOKORO_VOICE

INSTRUCTIONS = ("instruct", "instructions")
"""What the families call these, in mlx-audio 0.6; the first that a `generate` has is meant."""

UNSPOKEN = "`input` has nothing in it that could be read aloud."

STREAM_S = 2.0
"""How much speech a model that streams gives at a time, in seconds."""


class Speaking:
    """A loaded model. Sentences of different requests take turns."""

    def __init__(self, model: Any, voices: tuple[str, ...]) -> None:
        self._model = model
        self._takes = Parameters(model.generate)
        self.voices = voices
        self.engine = JobEngine()

    def job(self, ticket: int, request: SpeechRequest) -> Speech:
        """A request's work. Raises InvalidRequest for what the model can't do."""
        instructions = self._takes.first(INSTRUCTIONS)
        refuse(request.instructions is not None and not instructions, "instructions", "takes no instructions")
        refuse(request.speed != 1.0 and "speed" not in self._takes, "speed", "has one speed only")
        voice = choose(request.voice, self.voices)
        options: dict[str, Any] = {"voice": voice} if voice is not None else {}
        if "speed" in self._takes:
            options["speed"] = request.speed
        if request.instructions is not None:
            options[instructions] = request.instructions
        letter = voice[0] if voice is not None and KOKORO_VOICE.match(voice) else ""
        language = KOKORO.get(letter)
        if language is not None and "lang_code" in self._takes:
            options["lang_code"] = letter
        if "stream" in self._takes:
            options |= {"stream": True, "streaming_interval": STREAM_S}
        if not is_spoken(request.text):
            raise InvalidRequest(UNSPOKEN, "input")
        pieces = sentences(request.text, language or "en")
        job = Speech((ticket, 0), [], 0, format=request.format, pieces=pieces, model=self._model, options=options)
        job.total = sum(map(len, pieces))
        return job


KOKORO = {"a": "en", "b": "en", "e": "es", "f": "fr", "h": "hi", "i": "it", "j": "ja", "p": "en", "z": "zh"}
"""The first letter of a voice of Kokoro's says its language, and whose rules say where a sentence ends."""


@dataclass(eq=False, slots=True)
class Speech(SteppedJob):
    """One request."""

    format: SoundFormat = field(kw_only=True)
    pieces: list[str] = field(kw_only=True)
    model: Any = field(kw_only=True, repr=False)
    options: Mapping[str, Any] = field(kw_only=True)
    number: int = 0
    """Of the piece that is being spoken."""
    given: int = 0
    """How often the model was asked for more of it."""
    encoder: SoundEncoder | None = None
    speaking: Iterator[Any] | None = None

    @property
    def ended(self) -> bool:
        """All is said."""
        return self.number >= len(self.pieces)

    def step(self) -> list[Result]:
        """Some of a sentence, or the end of one. Raises InvalidRequest for a text that the model has no sound for."""
        # What models draw by lot depends on the sentence alone, and not on who speaks beside it.
        mx.random.seed(zlib.crc32(f"{self.pieces[self.number]} {self.given}".encode()))
        self.given += 1
        if self.speaking is None:
            self.speaking = iter(self.model.generate(text=self.pieces[self.number], **self.options))
        given = next(self.speaking, None)
        if given is None:
            self._next()
            if self.ended and self.encoder is None:
                raise InvalidRequest(UNSPOKEN, "input")
            data = self.encoder.end() if self.ended and self.encoder is not None else b""
            return [Sound(*self.key, data)] if data else []
        samples = samples_of(given.audio)
        if self.encoder is None:
            self.encoder = SoundEncoder(self.format, int(given.sample_rate))
        self.tokens += int(given.token_count or 0)
        data = self.encoder.add(samples)
        return [Sound(*self.key, data)] if data else []

    def _next(self) -> None:
        self.done += len(self.pieces[self.number])
        self.number += 1
        self.given = 0
        self.speaking = None
        mx.clear_cache()


def samples_of(audio: mx.array) -> Samples:
    """A model's sound in one channel, float32 [n]. Raises ArithmeticError for what is no number."""
    samples = np.asarray(audio.astype(mx.float32)).reshape(-1)
    if not np.isfinite(samples).all():
        raise ArithmeticError("the model computed something that is not a number")
    return samples
