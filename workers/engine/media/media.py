"""Clients' files become pictures, sounds and films, for several requests at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from queue import LifoQueue
from typing import Any

import numpy as np
from msgspec.structs import asdict, replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media, MediaKind
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.cancellation import IsCancelled, never
from mlx_server.workers.engine.media.films import FilmReader
from mlx_server.workers.engine.media.pictures import PictureReader
from mlx_server.workers.engine.media.sounds import SoundReader


class DecodedMedia(Media, frozen=True, kw_only=True):
    """What a file holds: a picture upright and in RGB, a sound's samples, or a Film. `digest` is what it is known by,
    since the file itself is no longer there."""

    content: Any
    digest: bytes


class Readers:
    """One request's at a time."""

    def __init__(self, limits: MediaLimits) -> None:
        self._pictures = PictureReader(limits)
        self._sounds = SoundReader(limits)
        self._films = FilmReader(limits)

    def read(self, media: Sequence[Media], sample_rate: int, abandoned: IsCancelled) -> list[DecodedMedia]:
        """All in order. Raises InvalidRequest, also once nobody waits."""
        began = time.monotonic()
        pictures = iter(self._pictures.read([one for one in media if one.kind == "image"], abandoned))
        spent_s = time.monotonic() - began
        sounds = iter(self._sounds.read([one for one in media if one.kind == "audio"], sample_rate, spent_s, abandoned))
        spent_s = time.monotonic() - began
        films = iter(self._films.read([one for one in media if one.kind == "video"], spent_s, abandoned))
        of: dict[MediaKind, Iterator[Any]] = {"image": pictures, "audio": sounds, "video": films}
        return [decoded(one, next(of[one.kind])) for one in media]

    def close(self) -> None:
        """End the processes. Idempotent; from any thread."""
        self._pictures.close()
        self._sounds.close()
        self._films.close()


class MediaDecoder:
    """For any thread: `count` requests are served at a time, and others wait."""

    def __init__(self, limits: MediaLimits, count: int, sample_rate: int) -> None:
        """`sample_rate` is what sounds get, in samples a second."""
        self._sample_rate = sample_rate
        self._all = [Readers(limits) for _ in range(count)]
        self._idle: LifoQueue[Readers] = LifoQueue()  # the one whose processes are warm comes first
        for readers in self._all:
            self._idle.put(readers)

    def decode(self, media: Sequence[Media], abandoned: IsCancelled = never) -> list[DecodedMedia]:
        """What a request's files hold, in order. Raises InvalidRequest for the first that can't be read, and soon after
        nobody waits: the process that is at it ends then."""
        readers = self._idle.get()
        try:
            return readers.read(media, self._sample_rate, abandoned)
        finally:
            self._idle.put(readers)

    def close(self) -> None:
        """End the processes. Idempotent."""
        for readers in self._all:
            readers.close()


def check_kinds(media: Sequence[Media], kinds: Sequence[MediaKind]) -> None:
    """Raises InvalidRequest for what is of no such kind."""
    for one in media:
        if one.kind not in kinds:
            raise InvalidRequest(f"`{one.param}`: this model takes no {one.kind} input.", one.param)


def decoded(media: Media, content: Any) -> DecodedMedia:
    """The same without its file."""
    return DecodedMedia(**asdict(media) | {"source": b""}, content=content, digest=digest(media))


def evened(shown: Sequence[DecodedMedia]) -> list[DecodedMedia]:
    """The same with silence after sounds that are shorter than the longest."""
    longest = max((one.content.size for one in shown if one.kind == "audio"), default=0)
    return [one if one.kind != "audio" or one.content.size == longest else lengthened(one, longest) for one in shown]


def lengthened(sound: DecodedMedia, samples: int) -> DecodedMedia:
    """The same with silence after it; it is known as something else then."""
    content = np.pad(sound.content, (0, samples - sound.content.size))
    return replace(sound, content=content, digest=sound.digest + samples.to_bytes(8, "big"))


def digest(media: Media) -> bytes:
    """What a picture or a sound is known by: equal ones give equal inputs."""
    assert isinstance(media.source, bytes)
    return hashlib.blake2b(media.source, digest_size=16, person=f"{media.kind} {media.detail}".encode()).digest()
