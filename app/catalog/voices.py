"""The voices of models that speak, found in their files: nothing has to be loaded."""

from __future__ import annotations

from mlx_server.app.catalog.served_type import path_of
from mlx_server.app.config.settings import ModelSettings
from mlx_server.workers.folders import voices
from mlx_server.workers.folders.audio_types import audio_kind
from mlx_server.workers.folders.model_files import NotAModel, read_json

ONLY = "default"
"""The name of the voice of a model that names none."""


def voices_of(settings: ModelSettings) -> tuple[str, ...]:
    """What `voice` may be with this model; none if it does not speak or is not on this machine. Blocks."""
    folder = path_of(settings)
    if folder is None or settings.type not in (None, "audio"):
        return ()
    try:
        config = read_json(folder, "config.json")
    except NotAModel:
        return ()
    kind = audio_kind(config, folder.name)
    if kind == "stt" or (kind is None and settings.type is None):
        return ()
    return voices.voices_of(folder, config) or (ONLY,)
