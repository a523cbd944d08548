"""Recordings that clients upload become samples in a temporary file: however long they are, memory holds a piece."""

from __future__ import annotations

import math
import os
import time
import weakref
from queue import LifoQueue
from tempfile import mkstemp

import numpy as np

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.media.sounds import Samples
from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.workers.engine.media.recording_child"
MEMORY_BYTES = 512 << 20
PIECE_S = 60
"""Seconds of sound that are decoded at a time."""

FASTEST = 20
"""A decoder that takes longer than a twentieth of the time that a recording plays is given up."""

UNREADABLE = "this is no sound that can be read (wav, mp3, flac, ogg, opus, m4a, aac, webm and films with sound can)"
UNREAD = {"no sound": "this file holds no sound"}
SCALE = 1 / 32768
SILENT = 3 * SCALE
"""Sound in which nothing is louder is silence: models find words in it all the same."""


class Recording:
    """16-bit samples of one channel in a file that has no name; it is gone with this object. May be read on any thread.

    `sample_rate` is in samples a second.
    """

    def __init__(self, sample_rate: int) -> None:
        self._descriptor, path = mkstemp()
        weakref.finalize(self, os.close, self._descriptor)
        os.unlink(path)
        self.samples = 0
        self.sample_rate = sample_rate

    def write(self, data: bytes) -> None:
        """Add little-endian 16-bit samples at its end."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.samples += len(data) // 2

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.samples / self.sample_rate

    def read(self, start: int, count: int) -> Samples:
        """Samples from `start` on, float32 [n] from -1 to 1, n at most `count` and less at the end."""
        data = os.pread(self._descriptor, 2 * max(0, min(count, self.samples - start)), 2 * start)
        return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(SCALE)


def is_silent(samples: Samples) -> bool:
    """Whether nothing is heard in a piece of a recording, float32 [samples]."""
    return not np.abs(samples).max(initial=0.0) > SILENT


class RecordingReader:
    """Decodes recordings; `count` threads may do so at a time, each with a process of its own."""

    def __init__(self, limits: MediaLimits, count: int) -> None:
        self._limits = limits
        self._all = [process_for(limits) for _ in range(count)]
        self._idle: LifoQueue[KillableProcess] = LifoQueue()  # the one that is warm comes first
        for process in self._all:
            self._idle.put(process)

    def read(self, path: str, param: str, sample_rate: int, abandoned: IsCancelled = never) -> Recording:
        """All of a file's sound in one channel, at `sample_rate` samples a second.

        Raises InvalidRequest for what is no sound or is too long, and soon after nobody waits.
        """
        process = self._idle.get()
        try:
            return self._decode(process, path, param, sample_rate, abandoned)
        except Stopped as error:
            raise InvalidRequest(f"`{param}`: this sound can't be read: decoding it {error}.", param) from None
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End the processes. Idempotent."""
        for process in self._all:
            process.close()

    def _decode(
        self, process: KillableProcess, path: str, param: str, sample_rate: int, abandoned: IsCancelled
    ) -> Recording:
        most = int(self._limits.recording_s * sample_rate)
        deadline = process.deadline()
        asked = process.ask({"open": path, "sample_rate": sample_rate}, deadline, abandoned)
        if (reason := asked.get("refused")) is not None:
            raise InvalidRequest(f"`{param}`: {UNREAD.get(reason, UNREADABLE)}.", param)
        recording = Recording(sample_rate)
        began = time.monotonic()
        while samples := self._piece(process, param, sample_rate, deadline, abandoned):
            recording.write(samples)
            if recording.samples > most:
                raise InvalidRequest(
                    f"`{param}`: the recording is longer than {self._limits.recording_s:g} seconds"
                    " (--max-recording-seconds).",
                    param,
                )
            deadline = began + self._limits.decode_s + recording.duration_s / FASTEST
        if not recording.samples:
            raise InvalidRequest(f"`{param}`: {UNREAD['no sound']}.", param)
        return recording

    def _piece(
        self, process: KillableProcess, param: str, sample_rate: int, deadline: float, abandoned: IsCancelled
    ) -> bytes:
        answer = process.ask({"samples": PIECE_S * sample_rate}, deadline, abandoned)
        if "refused" in answer:
            raise InvalidRequest(f"`{param}`: {UNREADABLE}.", param)
        samples: bytes = answer["samples"]
        return samples


def process_for(limits: MediaLimits) -> KillableProcess:
    """A process that decodes one recording at a time."""
    return KillableProcess(CHILD, limit_s=limits.decode_s, cpu_s=math.ceil(limits.decode_s), memory_bytes=MEMORY_BYTES)
