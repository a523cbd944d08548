"""What a configured model is served as. Reads a few files, never the weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from mlx_server.app.catalog.model_facts import MODEL_TYPES, ModelOnDisk, NotAModel
from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.fleet.errors import NotServable
from mlx_server.app.fleet.hub_cache import snapshot
from mlx_server.app.settings import ModelSettings, ModelType
from mlx_server.workers.model_path import ModelPathError, local_path


def folder_of(path: str) -> Path | None:
    """The folder or .gguf file that is meant, in the hub's cache too; None if it is not on this machine.

    Raises NotServable for what can't be a model.
    """
    try:
        return local_path(path) or snapshot(path)
    except ModelPathError as error:
        raise NotServable(str(error)) from None


def read(settings: ModelSettings) -> ModelOnDisk | None:
    """What the model's files say; None if they are not on this machine, or not of a model. Raises NotServable."""
    if settings.type == "scripted":
        return None
    folder = folder_of(settings.path)
    if folder is None:
        return None
    try:
        return read_model(folder)
    except NotAModel as error:
        if settings.type is None:
            raise NotServable(str(error)) from None
        return None  # the worker says better what is wrong with it


def type_of(settings: ModelSettings, found: ModelOnDisk | None) -> ModelType:
    """What it is served as: what was asked for, else what its files say, else text. Raises NotServable."""
    if settings.type is not None:
        return settings.type
    if found is None:
        return "lm"
    if found.kind not in MODEL_TYPES:
        raise NotServable(f"{found.path.name} is a model for {found.kind.value}, which is not served.")
    return cast(ModelType, MODEL_TYPES[found.kind])
