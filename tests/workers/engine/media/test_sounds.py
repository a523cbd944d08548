"""Sounds: what their files become, and what no file may do to the worker."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from support.sounds import RATE, wav

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.media.sounds import SoundReader

PARAM = "messages[0].content[0]"


@pytest.fixture(scope="module")
def reader() -> Iterator[SoundReader]:
    reader = SoundReader(MediaLimits(duration_s=3.0))
    yield reader
    reader.close()


def floats(*values: float) -> bytes:
    """A WAV file of 32-bit floats."""
    data = struct.pack(f"<{len(values)}f", *values)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, RATE, RATE * 4, 4, 32)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def refusal(reader: SoundReader, file: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        reader.read([Media("audio", file, 0, PARAM)], RATE)
    assert caught.value.param == PARAM
    return caught.value.message


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 1), (44_100, 2), (48_000, 1)])
def test_sounds_are_one_channel_at_the_wanted_rate(reader: SoundReader, rate: int, channels: int) -> None:
    (samples,) = reader.read([Media("audio", wav(0.5, rate, channels), 0, PARAM)], RATE)
    assert samples.dtype == np.float32
    assert abs(len(samples) - RATE / 2) < 32
    assert 0.45 < float(np.abs(samples).max()) < 0.55
    loudest = np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)
    assert abs(loudest - 440) < 3


def test_sounds_keep_their_order(reader: SoundReader) -> None:
    media = [Media("audio", wav(seconds), 0, PARAM) for seconds in (0.1, 0.3, 0.2)]
    assert [len(samples) for samples in reader.read(media, RATE)] == [1600, 4800, 3200]
    assert reader.read([], RATE) == []


@pytest.mark.parametrize(
    "file",
    [b"", b"RIFF", b"\xff", b"\x89PNG" * 500, b"fLaC" + b"\0" * 500, b"ID3" + b"\0" * 500, wav(0.1)[:20], floats()],
    ids=lambda file: repr(file[:8]),
)
def test_what_is_no_sound_is_refused(reader: SoundReader, file: bytes) -> None:
    assert refusal(reader, file) == f"`{PARAM}`: this is not a sound this server can read (WAV, MP3 or FLAC)."


def test_what_is_no_number_is_refused(reader: SoundReader) -> None:
    assert "is not a sound" in refusal(reader, floats(0.5, float("nan")))
    assert len(reader.read([Media("audio", floats(0.5, 0.25), 0, PARAM)], RATE)[0]) == 2


def test_a_sound_may_be_too_long(reader: SoundReader) -> None:
    assert refusal(reader, wav(3.1)) == f"`{PARAM}`: the sound is longer than 3 seconds."
    assert len(reader.read([Media("audio", wav(3.0), 0, PARAM)], RATE)[0]) == 3 * RATE
