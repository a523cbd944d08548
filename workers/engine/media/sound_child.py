"""A process of its own: decodes clients' sounds, for a worker that must not die
of them."""

from __future__ import annotations

import sys
from typing import Any

import miniaudio

from mlx_server.workers.engine.sandbox.child import serve

FRAMES = 1 << 14
"""Samples that are decoded at a time."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """`{"samples"}` as float32, none if the file can't be read; `{"too_long"}` if there are more than `most`."""
    try:
        samples = decode(request["file"], request["sample_rate"], request["most"])
    except (miniaudio.MiniaudioError, MemoryError):
        return {"samples": b""}
    return {"too_long": True} if samples is None else {"samples": samples}


def decode(file: bytes, sample_rate: int, most: int) -> bytes | None:
    """The samples of one channel; None if there are too many. Raises MiniaudioError."""
    if not is_sound(file):
        return b""
    samples = bytearray()
    pieces = miniaudio.stream_memory(file, miniaudio.SampleFormat.FLOAT32, 1, sample_rate, FRAMES)
    for piece in pieces:
        samples += piece.tobytes()
        if len(samples) > 4 * most:
            return None
    return bytes(samples)


def is_sound(file: bytes) -> bool:
    """Whether it begins as WAV, FLAC or MP3 files do: the decoder of the last finds music in anything."""
    wav = file[:4] == b"RIFF" and file[8:12] == b"WAVE"
    mp3 = file[:3] == b"ID3" or (len(file) > 1 and file[0] == 0xFF and file[1] >= 0xE0)
    return wav or mp3 or file[:4] == b"fLaC"


if __name__ == "__main__":
    serve(lambda greeting: answer, *map(int, sys.argv[1:]))
