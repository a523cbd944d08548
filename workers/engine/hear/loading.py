"""From a folder to a model that hears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_audio import stt

from mlx_server.schemas.internal.messages import CpuDtype, Loading
from mlx_server.workers.engine.hear.hearing import Hearing
from mlx_server.workers.engine.hear.other_families import OtherFamily
from mlx_server.workers.engine.hear.whisper import Whisper, is_whisper, suited
from mlx_server.workers.engine.loading.audio_models import read_audio_model
from mlx_server.workers.engine.loading.loading import evaluate


def read_hearing(
    folder: Path, cpu_dtype: CpuDtype, report: Callable[[Loading], None]
) -> tuple[Hearing, int, list[str]]:
    """The model, the bytes of its weights, and notes. Raises ModelLoadError."""
    model, notes = read_audio_model(stt.load, folder, cpu_dtype)
    size = evaluate(model, report)
    report(Loading("warming up", computes=True))
    if not is_whisper(model):
        return OtherFamily(model), size, notes
    suited(model)
    whisper = Whisper(model)
    whisper.try_out()
    return whisper, size, notes
