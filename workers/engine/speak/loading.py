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
from mlx_server.workers.folders.model_files import read_json
from mlx_server.workers.folders.voices import voices_of


def read_speaking(
    folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]
) -> tuple[Speaking, int, list[str]]:
    """The model, the bytes of its weights, and notes. Raises ModelLoadError."""
    model, notes = read_audio_model(tts.load, folder, cpu_dtype)
    size = evaluate(model, report)
    if ".models.kokoro." in f"{type(model).__module__}.":
        speak_english(model, folder)
    return Speaking(model, voices_of(folder, read_json(folder, "config.json"))), size, notes
