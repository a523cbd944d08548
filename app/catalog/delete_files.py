"""Deletes models' files, but only from folders that are there for them: --models-dir and the hub's cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlx_server.app.catalog import hub_cache
from mlx_server.app.config.settings import ModelSettings
from mlx_server.workers.folders.conversions import made_of
from mlx_server.workers.folders.gguf_parts import parts_named_by
from mlx_server.workers.folders.model_files import is_described
from mlx_server.workers.folders.model_path import HUB_ID

LOCKS = ".locks"
"""The folder in the hub's cache with a folder of locks for each repository."""


def deletable(path: Path, others: Iterable[Path], models_dir: Path | None = None) -> list[Path]:
    """What goes with the model at `path`: in `models_dir` its folder, or its file with all parts that belong to it, and
    in the hub's cache its whole repository.

    Empty if it lies elsewhere or is not there, or if something at one of the `others` lies in it.
    """
    targets = [target for target in owned(path, models_dir) if target.exists()]
    reals = {place for other in others for place in (other.absolute(), other.resolve())}
    places = {place for real in reals for place in (real, *real.parents)}
    return [] if any(is_same(place, target) for place in places for target in targets) else targets


def conversions(path: Path, others: Iterable[Path], cache_dir: Path) -> list[Path]:
    """What the server has made of a .gguf file, wherever that lies; none if another model is served from it."""
    parts = parts_named_by(path.absolute())
    if path.suffix != ".gguf" or any(is_same(part, other.absolute()) for other in others for part in parts):
        return []
    return list(made_of(parts[0], cache_dir))


def is_same(one: Path, other: Path) -> bool:
    """Whether both are one folder or file, also where they are spelled differently."""
    try:
        return one == other or one.samefile(other)
    except OSError:
        return False


def owned(path: Path, models_dir: Path | None) -> list[Path]:
    """The folder or the files of a model that are the server's own; none for a path of the user's, or for one in a
    model's folder, such as a part of a pipeline."""
    if models_dir is not None:
        root, real = models_dir.resolve(), path.resolve()
        if real.is_relative_to(root) and real != root:
            above = [folder for folder in real.parents if folder.is_relative_to(root)]
            return parts_named_by(real) if real.is_file() or not any(map(is_described, above)) else []
    repository = hub_cache.repository(path)
    return [] if repository is None else [repository]


def needed_by(model: ModelSettings) -> list[Path]:
    """Where what a model is served from lies or would lie: its own files, its draft model's and its adapters."""
    models = [found for path in (model.path, model.draft_model) if path for found in places_of(path)]
    return [*models, *filter(None, (model.adapter_path, model.adapter_dir))]


def places_of(model: str) -> list[Path]:
    """Where a model of this path or hub id lies or would lie."""
    path = Path(model).expanduser()
    return [path, hub_cache.repository_of(model)] if HUB_ID.fullmatch(model) else [path]


def bytes_in(targets: Iterable[Path]) -> int:
    """What their files take; links are not followed, so that each counts once."""
    files = [file for target in targets for file in (target.rglob("*") if target.is_dir() else [target])]
    return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())


def delete(targets: Sequence[Path]) -> None:
    """Delete folders or files, and the hub client's locks of a repository. Raises OSError.

    Of a model's parts the first goes last: without it nobody would find the rest.
    """
    for target in reversed(targets):
        if not target.is_dir():
            target.unlink()
            continue
        shutil.rmtree(target)
        if target.parent == hub_cache.cache_root():
            shutil.rmtree(target.parent / LOCKS / target.name, ignore_errors=True)
