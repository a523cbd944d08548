"""Removes models from the disk, but only from folders that are there for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from mlx_server.app.fleet import hub_cache
from mlx_server.app.fleet.errors import NotServable
from mlx_server.app.fleet.kinds import folder_of
from mlx_server.app.settings import ModelSettings, Settings


def remove_files(model: ModelSettings, others: Iterable[ModelSettings], server: Settings) -> bool:
    """Remove a model's files; False if they lie elsewhere, are not there, or are another's, too. Raises OSError."""
    folder = where(model)
    target = None if folder is None else owned(folder, server)
    if target is None or any((of_other := where(other)) and owned(of_other, server) == target for other in others):
        return False
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    return True


def where(model: ModelSettings) -> Path | None:
    """A model's files, as far as they are on this machine."""
    if model.type == "scripted":
        return None
    try:
        return folder_of(model.path)
    except NotServable:
        return None


def owned(folder: Path, server: Settings) -> Path | None:
    """What is to be removed: the model in --models-dir, or its whole repository in the hub's cache; else None."""
    if server.models_dir is not None:
        root, real = server.models_dir.resolve(), folder.resolve()
        if real.is_relative_to(root) and real != root:
            return real
    return hub_cache.repository(folder)
