"""From a folder to a model that speaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_audio import tts

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.loading.audio_models import read_audio_model
from mlx_server.workers.engine.loading.loading import evaluate
from mlx_server.workers.engine.phonemes import kitten, kokoro
from mlx_server.workers.engine.speak.speaking import Speaking
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.folders.model_files import read_json
from mlx_server.workers.folders.voices import voices_of

OWN_VOICE = "default-voice.safetensors"
"""Of a Pocket-TTS. One without any voice would fetch one from the hub for a request."""


def read_speaking(
    folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]
) -> tuple[Speaking, int, list[str]]:
    """The model, the bytes of its weights, and notes. Raises ModelLoadError."""
    model, notes = read_audio_model(tts.load, folder, cpu_dtype)
    size = evaluate(model, report)
    family = type(model).__module__
    if ".models.kokoro" in family:
        kokoro.speak_english(model, folder)
    elif ".models.kitten_tts" in family:
        kitten.speak_english(model)
    voices = voices_of(folder, read_json(folder, "config.json"))
    if ".models.pocket_tts" in family and not voices and not (folder / OWN_VOICE).is_file():
        raise ModelLoadError(f"{folder} has no voice: no files in its folder 'embeddings', and no {OWN_VOICE}")
    return Speaking(model, voices), size, notes
