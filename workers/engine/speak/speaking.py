"""Models that speak: mlx-audio's `generate`, on one sentence of a text after the other."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
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

UNDESCRIBED = "`instructions`: this model needs them: they describe the voice that it speaks with."

UNREAD = {
    "chatterbox": {"speed"},
    "fish_drama3": {"speed", *INSTRUCTIONS},
    "longcat_audiodit": {"speed"},
    "qwen3_tts": {"speed"},
    "zonos2": {"speed"},
}
"""Parameters that a `generate` of mlx-audio 0.6 has, and does nothing with or refuses, by the family's module."""


class Speaking:
    """A loaded model. Sentences of different requests take turns."""

    def __init__(self, model: Any, voices: tuple[str, ...]) -> None:
        self._model = model
        self._takes = Parameters(model.generate)
        for name in UNREAD.get(type(model).__module__.rpartition(".")[0].rpartition(".")[2], ()):
            self._takes.pop(name, None)
        self.voices = voices
        self.engine = JobEngine()

    def job(self, ticket: int, request: SpeechRequest) -> Speech:
        """A request's work. Raises InvalidRequest for what the model can't do."""
        instructions = self._takes.first(INSTRUCTIONS)
        refuse(request.instructions is not None and not instructions, "instructions", "takes no instructions")
        refuse(request.speed != 1.0 and "speed" not in self._takes, "speed", "has one speed only")
        if request.instructions is None and self._describes:
            raise InvalidRequest(UNDESCRIBED, "instructions")
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
        if not is_spoken(request.text):
            raise InvalidRequest(UNSPOKEN, "input")
        pieces = sentences(request.text, language or "en")
        job = Speech((ticket, 0), [], 0, format=request.format, pieces=pieces, model=self._model, options=options)
        job.total = sum(map(len, pieces))
        return job

    @property
    def _describes(self) -> bool:
        """It speaks with the voice that instructions describe, as one kind of Qwen3-TTS does."""
        return getattr(getattr(self._model, "config", None), "tts_model_type", None) == "voice_design"


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
    """Of the piece that is spoken next."""
    encoder: SoundEncoder | None = None

    @property
    def ended(self) -> bool:
        """All is said."""
        return self.number >= len(self.pieces)

    def step(self) -> list[Result]:
        """The next sentence, as a whole: many models keep what they are about, and another's sentence would go on from
        there. Raises InvalidRequest for a text that the model has no sound for."""
        text = self.pieces[self.number]
        # What models draw by lot depends on the sentence alone, and not on who speaks beside it.
        mx.random.seed(zlib.crc32(text.encode()))
        data = b""
        for given in self.model.generate(text=text, **self.options):
            samples = samples_of(given.audio)
            self.tokens += int(given.token_count or 0)
            if samples.size:
                self.encoder = self.encoder or SoundEncoder(self.format, int(given.sample_rate))
                data += self.encoder.add(samples)
        self.done += len(text)
        self.number += 1
        mx.clear_cache()
        if self.ended:
            if self.encoder is None:
                raise InvalidRequest(UNSPOKEN, "input")
            data += self.encoder.end()
        return [Sound(*self.key, data)] if data else []


def samples_of(audio: mx.array) -> Samples:
    """A model's sound in one channel, float32 [n]. Raises ArithmeticError for what is no number."""
    samples = np.asarray(audio.astype(mx.float32)).reshape(-1)
    if not np.isfinite(samples).all():
        raise ArithmeticError("the model computed something that is not a number")
    return samples
