"""Speech as a file of its format, piece by piece: FFmpeg's encoders, from PyAV's wheels."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from mlx_server.schemas.internal.sound import SoundFormat
from mlx_server.workers.engine.media.sounds import Samples

FORMATS: dict[SoundFormat, tuple[str, str, str, dict[str, str]]] = {
    "mp3": ("mp3", "libmp3lame", "s16p", {"write_xing": "0", "id3v2_version": "0"}),
    "opus": ("ogg", "libopus", "s16", {"page_duration": "200000"}),
    "aac": ("adts", "aac", "fltp", {}),
    "flac": ("flac", "flac", "s16", {}),
    "wav": ("wav", "pcm_s16le", "s16", {}),
    "pcm": ("s16le", "pcm_s16le", "s16", {}),
}
"""FFmpeg's names of the container, the codec and its samples, and options of the container."""

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Samples a second that Opus takes."""

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
UNKNOWN_LENGTH = b"\xff\xff\xff\xff"


class _Out(io.RawIOBase):
    """What has been written since it was last taken. It can't be gone back in: a stream is on its way."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Keep a copy."""
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """All that is there."""
        taken = bytes(self._data)
        self._data.clear()
        return taken


class SoundEncoder:
    """One channel at `sample_rate` samples a second, encoded as it comes."""

    def __init__(self, sound_format: SoundFormat, sample_rate: int) -> None:
        container, codec, layout, options = FORMATS[sound_format]
        self._out = _Out()
        self._wav = sound_format == "wav"
        self._rate = suited_rate(sound_format, sample_rate)
        self._given_rate = sample_rate
        self._container = av.open(self._out, "w", format=container, options=options)
        stream: Any = self._container.add_stream(codec, rate=self._rate, layout="mono")
        stream.format = layout
        self._stream = stream
        self._resampler = AudioResampler(layout, "mono", self._rate, frame_size=self._frame_size())
        self._written = 0

    def add(self, samples: Samples) -> bytes:
        """What is certain after these samples, float32 [n] from -1 to 1."""
        frame = AudioFrame.from_ndarray(to_16_bit(samples)[None], format="s16", layout="mono")
        frame.sample_rate = self._given_rate
        frame.pts = self._written
        self._written += samples.size
        self._encode(frame)
        return self._take()

    def end(self) -> bytes:
        """The rest of the file."""
        self._encode(None)
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._take()

    def _encode(self, frame: AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            for packet in self._stream.encode(resampled):
                self._container.mux(packet)

    def _frame_size(self) -> int:
        self._stream.codec_context.open()
        size: int = self._stream.codec_context.frame_size
        return size

    def _take(self) -> bytes:
        """A WAV's head says at the beginning how long it is; in a stream nobody knows, and players read to its end."""
        data = self._out.take()
        if self._wav and data[:4] == b"RIFF":
            at = data.index(b"data") + 4
            data = data[:4] + UNKNOWN_LENGTH + data[8:at] + UNKNOWN_LENGTH + data[at + 4 :]
        return data


def suited_rate(sound_format: SoundFormat, sample_rate: int) -> int:
    """The rate that a format has nearest to a model's, and not below if it can be."""
    rates = {"opus": OPUS_RATES, "mp3": MP3_RATES}.get(sound_format)
    if rates is None:
        return sample_rate
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def to_16_bit(samples: Samples) -> np.ndarray[Any, np.dtype[np.int16]]:
    """16-bit integers [n]; what is louder than can be is cut."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
