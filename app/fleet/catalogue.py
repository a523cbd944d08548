"""Which models may be named: those that are configured, and those that are found by their names on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mlx_server.app.catalog import hub_cache
from mlx_server.app.catalog.errors import ModelNotFound
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.catalog.model_folder import find_models, is_gguf
from mlx_server.app.catalog.spelling import is_spelled_so
from mlx_server.app.config import names
from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.workers.folders.model_files import is_described
from mlx_server.workers.folders.model_path import HUB_ID

Source = Literal["configured", "registry", "folder", "hub"]


@dataclass(frozen=True)
class ModelEntry:
    """A model that may be named, where it was found, and what its files say where that has been looked at.

    `failed`: it could not be loaded when that was tried last.
    """

    name: str
    settings: ModelSettings
    source: Source
    on_disk: ModelOnDisk | None = None
    failed: bool = False


class Catalogue:
    """Finds models. Everything but `configured` reads the disk, so call it in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.configured = names.index(settings.models)

    @property
    def searched(self) -> bool:
        """Names that are not configured may be found in the hub's cache too."""
        return self.settings.sole is None

    def find(self, name: str) -> ModelSettings:
        """A model that is not configured. Raises ModelNotFound, which says how to get it."""
        settings = self.settings
        if not names.is_name(name) and not (settings.models_dir and name.startswith("/")):
            hint = " Paths may be named of models in --models-dir." if name.startswith("/") else ""
            raise ModelNotFound(name, f"Names have {names.NAME_RULE}.{hint}")
        if settings.models_dir is not None and (found := inside(settings.models_dir, name)) is not None:
            return self.by_path(found, name)
        if HUB_ID.fullmatch(name):
            if self.searched and hub_cache.snapshot(name) is not None:
                return replace(settings.defaults, path=name, name=name)
            if settings.auto_download:
                return replace(settings.defaults, path=name, name=name)
            raise ModelNotFound(
                name,
                "It is not on this machine: install it with POST /v1/models/install or `mlx-server models pull`,"
                " or start the server with --auto-download.",
            )
        raise ModelNotFound(name, "GET /v1/models lists those that may be named.")

    def by_path(self, path: Path, name: str) -> ModelSettings:
        """A model of --models-dir, under its own path in it whichever way it was named."""
        assert self.settings.models_dir is not None
        own = path.relative_to(self.settings.models_dir.resolve()).as_posix()
        return replace(self.settings.defaults, path=str(path), name=own.removesuffix(".gguf"))

    def on_disk(self) -> Iterator[ModelEntry]:
        """All that can be found without being named: --models-dir and, where names select, the hub's cache."""
        folder = self.settings.models_dir
        if folder is not None:
            root = folder.resolve()
            for model in find_models(root):
                if model.path.resolve().is_relative_to(root) and model.path != root:
                    settings = self.by_path(model.path, "")
                    yield ModelEntry(settings.public_name, settings, "folder", model)
        if self.searched:
            for name, _ in hub_cache.snapshots():
                yield ModelEntry(name, replace(self.settings.defaults, path=name, name=name), "hub")


def inside(folder: Path, name: str) -> Path | None:
    """The model folder or .gguf file of that path in `folder`, links resolved and not followed out of it."""
    root = folder.resolve()
    try:
        for candidate in (root / name, root / f"{name}.gguf"):
            path = candidate.resolve()
            if not path.is_relative_to(root) or path == root:
                continue
            if (is_described(path) or is_gguf(path)) and is_spelled_so(path, root):
                return path
    except (OSError, ValueError):
        return None
    return None
