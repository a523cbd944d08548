"""Deletes models' files, but only from folders that are there for them: --models-dir and the hub's cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from mlx_server.app.catalog import hub_cache

LOCKS = ".locks"
"""The folder in the hub's cache with a folder of locks for each repository."""


def deletable(path: Path, others: Iterable[Path], models_dir: Path | None = None) -> Path | None:
    """What goes with the model at `path`: the model itself in `models_dir`, or its whole repository in the hub's cache.

    None if it lies elsewhere or is not there, or if a model at one of the `others` needs it, too.
    """
    target = owned(path, models_dir)
    if target is None or not target.exists() or any(owned(other, models_dir) == target for other in others):
        return None
    return target


def owned(path: Path, models_dir: Path | None) -> Path | None:
    """The folder or file of a model that is the server's own; None for a path of the user's."""
    if models_dir is not None:
        root, real = models_dir.resolve(), path.resolve()
        if real.is_relative_to(root) and real != root:
            return real
    return hub_cache.repository(path)


def bytes_in(target: Path) -> int:
    """What its files take; links are not followed, so that each counts once."""
    files = target.rglob("*") if target.is_dir() else [target]
    return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())


def delete(target: Path) -> None:
    """Delete a folder or file, and the hub client's locks of a repository. Raises OSError."""
    if not target.is_dir():
        target.unlink()
        return
    shutil.rmtree(target)
    if target.parent == hub_cache.cache_root().absolute():
        shutil.rmtree(target.parent / LOCKS / target.name, ignore_errors=True)
