"""The process that decodes recordings, of any length, piece by piece. Nothing else in it: FFmpeg is not ours."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from mlx_server.workers.engine.sandbox.child import serve

CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,m4a,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,tta,w64,wav,webm,wv"
)
"""FFmpeg's names of what may be read. None of them is a list of other files or addresses."""


class Decoder:
    """One recording at a time: `open` it, then ask for `samples` until there are none."""

    def __init__(self) -> None:
        self._pieces: Iterator[bytes] = iter(())
        self._container: InputContainer | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What there is to say to one request; `refused` says why it is nothing that can be heard."""
        try:
            if (path := request.get("open")) is not None:
                return self._open(path, request["sample_rate"])
            return {"samples": self._read(2 * request["samples"])}
        except (av.FFmpegError, ValueError) as error:
            return {"refused": type(error).__name__}

    def _open(self, path: str, sample_rate: int) -> dict[str, Any]:
        if self._container is not None:
            self._container.close()
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        container = self._container = av.open(path, options=options, metadata_errors="ignore")
        if not container.streams.audio:
            return {"refused": "no sound"}
        self._pieces = pieces(container, sample_rate)
        return {}

    def _read(self, most: int) -> bytes:
        """About so many bytes; none at the end."""
        read = bytearray()
        while len(read) < most and (piece := next(self._pieces, None)) is not None:
            read += piece
        return bytes(read)


def pieces(container: InputContainer, sample_rate: int) -> Iterator[bytes]:
    """The first sound as 16-bit samples of one channel. What is broken in the middle is passed over; rate and channels
    may change there, as they do where files were put in a row."""
    resampler, kind = AudioResampler("s16", "mono", sample_rate), None
    for packet in container.demux(container.streams.audio[0]):
        with suppress(av.InvalidDataError):
            for frame in packet.decode():
                before, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
                if before not in (None, kind):
                    yield from samples_of(resampler.resample(None))
                    resampler = AudioResampler("s16", "mono", sample_rate)
                yield from samples_of(resampler.resample(frame))
    yield from samples_of(resampler.resample(None))


def samples_of(frames: Iterable[AudioFrame]) -> Iterator[bytes]:
    """Those of resampled frames, without what pads their planes."""
    for frame in frames:
        yield bytes(frame.planes[0])[: 2 * frame.samples]


if __name__ == "__main__":
    serve(lambda greeting: Decoder().answer, *map(int, sys.argv[1:]))
