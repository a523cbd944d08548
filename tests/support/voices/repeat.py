"""`python repeat.py KOKORO WHISPER [VOICE TEXT]...`: Kokoro says each text, and standard output has what Whisper heard,
a line for each. A process of its own, because only one that starts with a fast BLAS speaks in a bearable time.
"""

import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_audio import stt, tts
from scipy.signal import resample_poly

from mlx_server.workers.engine.phonemes.kokoro import speak_english
from mlx_server.workers.engine.runtime import platform


def main(kokoro: Path, whisper: Path, voices: list[str], texts: list[str]) -> None:
    """Say and hear them all."""
    platform.configure()
    mouth, ear = tts.load(kokoro, strict=True), stt.load(whisper, strict=True)
    speak_english(mouth, kokoro)
    hold_float32(ear)
    for voice, text in zip(voices, texts, strict=True):
        spoken = np.concatenate(
            [np.array(part.audio) for part in mouth.generate(text, voice=voice, lang_code=voice[0])]
        )
        assert 0.1 < np.abs(spoken).max() < 1
        sound = resample_poly(spoken, 2, 3).astype(np.float32)
        print(f"heard: {ear.generate(sound, temperature=0.0, fp16=False, language='en').text.strip()}", flush=True)


def hold_float32(model: Any) -> None:
    """A Whisper is float16 when it comes from mlx-audio (0.6), which is many times slower on a CPU."""
    model.set_dtype(mx.float32)
    model.dtype = mx.float32
    model.encoder._positional_embedding = model.encoder._positional_embedding.astype(mx.float32)
    model.decoder._mask = model.decoder._mask.astype(mx.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3::2], sys.argv[4::2])
