"""Films from the bytes of clients' files: they are decoded in a process that can be killed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.sandbox.host import KillableProcess, Stopped

CHILD = "mlx_server.workers.engine.media.film_child"

FRAMES_PER_S = 2.0
MOST_FRAMES = 32
BASE_BYTES = 1 << 30
BYTES_PER_PIXEL = 48
"""Decoders keep many frames that others are made from."""


@dataclass(frozen=True, eq=False, slots=True)
class Film:
    """Some of a film's frames, RGB, uint8 [K, 3, H, W], with their numbers among all its `total` ones, `fps` a
    second."""

    frames: NDArray[np.uint8] = field(repr=False)
    indices: list[int]
    total: int
    fps: float


class FilmReader:
    """Decodes films, one after the other. Use it on one thread at a time; `close` from any.

    Two frames a second are seen, at most 32 in all, and together they have no more pixels than one picture may have.
    """

    def __init__(self, limits: MediaLimits) -> None:
        greeting = {"fps": FRAMES_PER_S, "most_frames": MOST_FRAMES}
        greeting |= {"most_pixels": limits.image_pixels, "duration_s": limits.duration_s}
        self._process = KillableProcess(
            CHILD,
            limit_s=limits.decode_s,
            cpu_s=math.ceil(limits.decode_s),
            memory_bytes=BASE_BYTES + BYTES_PER_PIXEL * limits.image_pixels,
            greeting=greeting,
            max_answer=3 * limits.image_pixels + (1 << 16),
        )

    def read(self, media: Sequence[Media], spent_s: float = 0.0, abandoned: IsCancelled = never) -> list[Film]:
        """The films. `spent_s` is what the request's other files took of the time for all.

        Raises InvalidRequest for the first that can't be read, for one that is too long or too large, and once nobody
        waits.
        """
        deadline = self._process.deadline() - spent_s if media else 0.0
        return [self._decode(one, deadline, abandoned) for one in media]

    def close(self) -> None:
        """End the process. Idempotent."""
        self._process.close()

    def _decode(self, media: Media, deadline: float, abandoned: IsCancelled) -> Film:
        param = media.param
        try:
            answer = self._process.ask({"file": media.source}, deadline, abandoned)
        except Stopped as error:
            raise InvalidRequest(f"`{param}`: this film can't be read: decoding it {error}.", param) from None
        if "refused" in answer:
            raise InvalidRequest(f"`{param}`: {answer['refused']}.", param)
        pixels = np.frombuffer(answer["frames"], np.uint8)
        frames = pixels.reshape(-1, answer["height"], answer["width"], 3).transpose(0, 3, 1, 2)
        return Film(frames, answer["indices"], answer["total"], answer["fps"])
