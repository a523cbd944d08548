"""From a folder to a model that speaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_audio import tts

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.loading.audio_models import read_audio_model
from mlx_server.workers.engine.loading.loading import evaluate
from mlx_server.workers.engine.phonemes.kokoro import speak_english
from mlx_server.workers.engine.speak.speaking import Speaking
from mlx_server.workers.engine.speak.voices import spoken_here, voices_of
from mlx_server.workers.folders.model_files import read_json


def read_speaking(
    folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]
) -> tuple[Speaking, int, list[str]]:
    """The model, the bytes of its weights, and notes. Raises ModelLoadError."""
    model, notes = read_audio_model(tts.load, folder, cpu_dtype)
    size = evaluate(model, report)
    voices = voices_of(folder, read_json(folder, "config.json"), model)
    if ".models.kokoro." in f"{type(model).__module__}.":
        speak_english(model, folder)
        voices = spoken_here(voices)
    return Speaking(model, voices), size, notes
