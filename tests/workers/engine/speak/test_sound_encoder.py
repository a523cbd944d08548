"""Speech as files: what is written piece by piece is a file that is read again, in every format."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler

from mlx_server.schemas.internal.sound import SoundFormat
from mlx_server.workers.engine.media.sounds import Samples
from mlx_server.workers.engine.speak.sound_encoder import FORMATS, SoundEncoder

RATE = 24_000
PIECES = [
    np.sin(2 * np.pi * 440 * np.arange(at, at + 6_000) / RATE).astype(np.float32) / 2 for at in range(0, 24_000, 6_000)
]


def decoded(data: bytes, sound_format: SoundFormat) -> tuple[Samples, int]:
    """All samples of a file, and how many there are in a second."""
    if sound_format == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, RATE
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        resampler = AudioResampler("flt", "mono")
        frames = [out for frame in (*container.decode(stream), None) for out in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]), stream.rate


@pytest.mark.parametrize("sound_format", FORMATS)
def test_pieces_are_a_file(sound_format: SoundFormat) -> None:
    encoder = SoundEncoder(sound_format, RATE)
    parts = [encoder.add(piece) for piece in PIECES]
    parts.append(encoder.end())
    samples, rate = decoded(b"".join(parts), sound_format)
    assert abs(samples.size / rate - 1.0) < 0.1
    loudest = np.abs(np.fft.rfft(samples)).argmax() * rate / samples.size
    assert abs(loudest - 440) < 3
    assert 0.4 < float(np.abs(samples).max()) < 0.6


@pytest.mark.parametrize("sound_format", FORMATS)
def test_something_is_there_before_the_end(sound_format: SoundFormat) -> None:
    encoder = SoundEncoder(sound_format, RATE)
    begun = b"".join(encoder.add(piece) for piece in PIECES)
    assert len(begun) > 100
    assert len(encoder.end()) < len(begun)


def test_a_wav_of_unknown_length_is_read_to_its_end() -> None:
    encoder = SoundEncoder("wav", RATE)
    data = b"".join([*map(encoder.add, PIECES), encoder.end()])
    assert data[4:8] == b"\xff\xff\xff\xff"
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert len(file.readframes(1 << 20)) == 2 * sum(piece.size for piece in PIECES)


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("sound_format", ["mp3", "opus", "aac"])
def test_any_rate_of_a_model_fits(sound_format: SoundFormat, rate: int) -> None:
    encoder = SoundEncoder(sound_format, rate)
    tone = (np.sin(2 * np.pi * 440 * np.arange(rate) / rate) / 2).astype(np.float32)
    samples, decoded_rate = decoded(encoder.add(tone) + encoder.end(), sound_format)
    assert abs(samples.size / decoded_rate - 1.0) < 0.15


def test_what_is_too_loud_is_cut() -> None:
    encoder = SoundEncoder("pcm", RATE)
    data = encoder.add(np.array([2.0, -2.0, 0.0], np.float32)) + encoder.end()
    assert np.frombuffer(data, "<i2").tolist() == [32767, -32767, 0]
