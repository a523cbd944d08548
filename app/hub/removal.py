"""Deleting models' files, but only those that were downloaded for the hub's cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from mlx_server.app.fleet.hub_cache import repository
from mlx_server.app.registry.rows import ModelRow


def removable(row: ModelRow, rows: Iterable[ModelRow]) -> Path | None:
    """The folder that may go with a model: its repository in the hub's cache, unless another model is of it."""
    folder = repository(Path(row.path)) if row.path else None
    if folder is None or not folder.is_dir():
        return None
    others = (other for other in rows if other.name != row.name and other.path)
    return None if any(repository(Path(other.path or "")) == folder for other in others) else folder


def bytes_in(folder: Path) -> int:
    """What its files take; links are not followed, so that each counts once."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def remove(folder: Path) -> None:
    """Delete a repository, and the locks of its files. Raises OSError."""
    shutil.rmtree(folder)
    shutil.rmtree(folder.parent / ".locks" / folder.name, ignore_errors=True)
