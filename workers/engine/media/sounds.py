"""Sounds from the bytes of clients' files: they are decoded in a process that can be killed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.workers.engine.media.sound_child"

MAX_SAMPLE_RATE = 48_000
BASE_BYTES = 256 << 20
UNREADABLE = "this is not a sound this server can read (WAV, MP3 or FLAC)"

Samples = NDArray[np.float32]
"""A sound in one channel, [samples], from -1 to 1."""


class SoundReader:
    """Decodes sounds, one after the other. Use it on one thread; `close` from any."""

    def __init__(self, limits: MediaLimits) -> None:
        most_bytes = math.ceil(limits.duration_s * MAX_SAMPLE_RATE) * 4
        self._duration_s = limits.duration_s
        self._process = KillableProcess(
            CHILD,
            limit_s=limits.decode_s,
            cpu_s=math.ceil(limits.decode_s),
            memory_bytes=BASE_BYTES + 3 * most_bytes,
            max_answer=most_bytes + 1024,
        )

    def read(
        self, media: Sequence[Media], sample_rate: int, spent_s: float = 0.0, abandoned: IsCancelled = never
    ) -> list[Samples]:
        """The sounds in one channel, float32 [samples] from -1 to 1, at `sample_rate` (at most MAX_SAMPLE_RATE) samples
        a second.

        `spent_s` is what the request's other files took of the time for all. Raises InvalidRequest for the first that
        can't be read, for one that is too long, and once nobody waits.
        """
        assert sample_rate <= MAX_SAMPLE_RATE
        deadline = self._process.deadline() - spent_s if media else 0.0
        return [self._decode(one, sample_rate, deadline, abandoned) for one in media]

    def close(self) -> None:
        """End the process. Idempotent."""
        self._process.close()

    def _decode(self, media: Media, sample_rate: int, deadline: float, abandoned: IsCancelled) -> Samples:
        param = media.param
        request = {"file": media.source, "sample_rate": sample_rate, "most": int(self._duration_s * sample_rate)}
        try:
            answer = self._process.ask(request, deadline, abandoned)
        except Stopped as error:
            raise InvalidRequest(f"`{param}`: this sound can't be read: decoding it {error}.", param) from None
        if answer.get("too_long"):
            raise InvalidRequest(f"`{param}`: the sound is longer than {self._duration_s:g} seconds.", param)
        samples = np.frombuffer(answer.get("samples", b""), np.float32)
        if not samples.size or not np.isfinite(samples).all():
            raise InvalidRequest(f"`{param}`: {UNREADABLE}.", param)
        return samples
