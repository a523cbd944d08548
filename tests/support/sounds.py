"""Sounds as files."""

from __future__ import annotations

import io
import wave

import numpy as np

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
