"""A recording that is being written down: where it is, and what came before."""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx

from mlx_server.schemas.internal.sound import TranscriptionRequest
from mlx_server.workers.engine.hear.windows import FRAMES, TEMPERATURES
from mlx_server.workers.engine.jobs import Job
from mlx_server.workers.engine.media.recordings import Recording
from mlx_server.workers.engine.media.sounds import Samples

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 160
"""A frame is 10 ms."""


class OpenedTranscription(TranscriptionRequest, frozen=True, kw_only=True):
    """The same with its recording decoded."""

    recording: Recording


@dataclass(eq=False, slots=True)
class Transcription(Job):
    """One request. `seek` is the first frame that is not written down yet; `features`, [T, D], are what the encoder
    made of the window there, once it has. `context` are the tokens that the next window's prompt ends with."""

    request: OpenedTranscription = field(kw_only=True)
    language: str = ""
    translate: bool = False
    context: list[int] = field(default_factory=list)
    seek: int = 0
    attempt: int = 0
    features: mx.array | None = field(default=None, repr=False)
    announced: bool = False
    last_speech_s: float = 0.0
    windows: int = 0

    @property
    def recording(self) -> Recording:
        """What is written down."""
        return self.request.recording

    @property
    def frames(self) -> int:
        """Of the whole recording, begun ones included."""
        return -(-self.recording.samples // FRAME_SAMPLES)

    @property
    def window_frames(self) -> int:
        """How many frames of sound the window at `seek` has."""
        return min(FRAMES, self.frames - self.seek)

    @property
    def over(self) -> bool:
        """Everything is written down."""
        return self.seek >= self.frames

    @property
    def temperature(self) -> float:
        """What the window is tried at now."""
        return self.request.temperature or TEMPERATURES[self.attempt]

    @property
    def tries_left(self) -> bool:
        """Whether it may be tried again, at a higher temperature."""
        return not self.request.temperature and self.attempt + 1 < len(TEMPERATURES)

    def samples(self) -> Samples:
        """The window's sound, float32 [samples]."""
        return self.recording.read(self.seek * FRAME_SAMPLES, FRAMES * FRAME_SAMPLES)

    def move(self, frames: int) -> None:
        """Go on so many frames later."""
        self.seek = min(self.seek + frames, self.frames)
        self.attempt = 0
        self.features = None
        self.windows += 1
        self.done = self.seek // 100
