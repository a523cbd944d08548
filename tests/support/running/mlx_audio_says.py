"""`python mlx_audio_says.py [--plain] FOLDER FILE…`: what mlx-audio's own `generate` writes down of WAV files, as JSON
lines; with `--plain` without the times of words, and a last line with the seconds that it took.

A process of its own, with the BLAS that workers get.
"""

import json
import sys
import time
import wave
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_audio import stt

from mlx_server.workers.engine.hear.whisper import suited


def main(*given: str) -> None:
    """One line for each file."""
    plain = given[0] == "--plain"
    folder, *files = given[plain:]
    model = stt.load(Path(folder))
    model.set_dtype(mx.float32)
    suited(model)
    began = time.perf_counter()
    for file in files:
        with wave.open(file) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768
        found = model.generate(mx.array(samples), language="en", word_timestamps=not plain, fp16=False)
        print(json.dumps({"text": found.text, "segments": found.segments}, default=float), flush=True)
    if plain:
        print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
