"""Sentences as speech, and how far what was heard of them is from what was said."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import wave
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

RATE = 16_000
"""Of what is spoken, in hertz."""

SENTENCES = (
    "Please open the window and close the door.",
    "My sister lives in a small house near the river.",
    "We will meet at the station tomorrow morning.",
    "The capital of France is Paris.",
    "Can you help me find my keys?",
    "The weather is nice today and the sun is shining.",
    "He bought bread, milk and butter at the market.",
    "The children are playing in the garden behind the school.",
    "It takes a long time to walk from here to the library.",
    "The quick brown fox jumps over the lazy dog.",
)

Samples = NDArray[np.float32]


def spoken(text: str, voice: str = "en-us", words_per_minute: int = 150) -> bytes:
    """A WAV file of 16-bit mono samples at 16 kHz, the same for the same text: a synthetic voice of espeak-ng's."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples(text, voice, words_per_minute) * 32767).astype("<i2").tobytes())
    return file.getvalue()


@cache
def samples(text: str, voice: str = "en-us", words_per_minute: int = 150) -> Samples:
    """What `spoken` has in its file, from -1 to 1."""
    script = Path(__file__).parent / "espeak.py"
    command = [sys.executable, script, text, voice, str(words_per_minute)]
    said = subprocess.run(command, capture_output=True, timeout=60)
    assert said.returncode == 0, said.stderr.decode()
    values = np.frombuffer(said.stdout, "<i2").astype(np.float32) / 32768
    whole = resample_poly(values, RATE, int(said.stderr)).astype(np.float32)
    return np.clip(whole, -1, 1)


def word_error_rate(said: str | list[str], heard: str | list[str]) -> float:
    """Words that were changed, left out or added, as a part of those that were said, without case and punctuation."""
    both = [[_words(text) for text in ([texts] if isinstance(texts, str) else texts)] for texts in (said, heard)]
    return float(jiwer.wer(*both))


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower().replace("\u2019", "'")))
