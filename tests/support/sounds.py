"""Sounds as files."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
from av.audio.resampler import AudioResampler

RATE = 16_000


def wav(seconds: float, rate: int = RATE, channels: int = 1, width: int = 2, hertz: float = 440) -> bytes:
    """A tone at half the full level."""
    times = np.arange(int(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * hertz * times) / 2
    values = (np.repeat(tone, channels) * 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(values.tobytes())
    return file.getvalue()


CONTAINERS = {
    "wav": "pcm_s16le",
    "mp3": "libmp3lame",
    "flac": "flac",
    "ogg": "flac",
    "opus": "libopus",
    "ipod": "aac",
    "adts": "aac",
    "webm": "libopus",
}
"""FFmpeg's names of what clients record in, and a codec for each; `ipod` is m4a, `adts` is aac."""


def encoded(sound: bytes, container: str, rate: int | None = None, layout: str = "mono") -> bytes:
    """A WAV's sound as another file."""
    file = io.BytesIO()
    with av.open(io.BytesIO(sound)) as given, av.open(file, "w", format=container) as made:
        source = given.streams.audio[0]
        codec = CONTAINERS.get(container, "aac")
        wanted = rate or (48_000 if codec == "libopus" else source.rate)
        stream = made.add_stream(codec, rate=wanted, layout=layout)
        resampler = AudioResampler(stream.format.name, layout, wanted)
        for frame in (*given.decode(source), None):
            for resampled in resampler.resample(frame):
                made.mux(stream.encode(resampled))
        made.mux(stream.encode(None))
    return file.getvalue()


def film(sound: bytes) -> bytes:
    """A black film in MP4 with a WAV's sound."""
    file = io.BytesIO()
    with av.open(io.BytesIO(sound)) as given, av.open(file, "w", format="mp4") as made:
        source = given.streams.audio[0]
        picture = made.add_stream("mpeg4", rate=5)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        stream = made.add_stream("aac", rate=source.rate, layout="mono")
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts = number
            made.mux(picture.encode(frame))
        made.mux(picture.encode(None))
        resampler = AudioResampler("fltp", "mono", source.rate)
        for sample in (*given.decode(source), None):
            for resampled in resampler.resample(sample):
                made.mux(stream.encode(resampled))
        made.mux(stream.encode(None))
    return file.getvalue()


def silence(seconds: float) -> bytes:
    """A WAV file in which nothing is heard."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(bytes(2 * int(seconds * RATE)))
    return file.getvalue()
