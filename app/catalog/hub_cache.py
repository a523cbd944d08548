"""The hub's cache on this machine, without the hub's client (huggingface.co/docs/huggingface_hub, manage-cache)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mlx_server.app.catalog.spelling import is_spelled_so
from mlx_server.workers.folders.model_files import CACHED, PIPELINE, weight_files
from mlx_server.workers.folders.picture_types import PARTS

MAIN = "refs/main"


def cache_root() -> Path:
    """Where it is, as the hub's client finds it (huggingface_hub/constants.py), links resolved as it does."""
    given = os.environ
    home = expanded(given.get("HF_HOME", Path(given.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")))
    return expanded(given.get("HF_HUB_CACHE", given.get("HUGGINGFACE_HUB_CACHE", home / "hub"))).resolve()


def expanded(path: str | Path) -> Path:
    """A path with the user's folder in the place of `~`, and variables by their values."""
    return Path(os.path.expandvars(Path(path).expanduser()))


def snapshot(hub_id: str) -> Path | None:
    """The files of a repository that was downloaded, with its configuration at least; None without."""
    repository = repository_of(hub_id)
    found = complete(repository)
    return found if found is not None and is_spelled_so(repository, repository.parent) else None


def repository_of(hub_id: str) -> Path:
    """Where the cache has a repository, or would have it."""
    return cache_root() / f"{CACHED}{hub_id.replace('/', '--')}"


def snapshots() -> Iterator[tuple[str, Path]]:
    """All repositories of models that were downloaded, by their ids; none where the cache can't be seen."""
    root = cache_root()
    for repository in sorted(root.glob(f"{CACHED}*--*")) if os.path.isdir(root) else ():
        if (found := complete(repository)) is not None:
            yield repository.name.removeprefix(CACHED).replace("--", "/", 1), found


def complete(repository: Path) -> Path | None:
    """The snapshot of the main branch, if all of it seems to be there."""
    try:
        folder = repository / "snapshots" / (repository / MAIN).read_text().strip()
        parts = [folder / part for part in PARTS] if (folder / PIPELINE).is_file() else [folder]
        whole = all((part / "config.json").is_file() and weight_files(part) for part in parts)
        return folder if whole else None
    except (OSError, ValueError):
        return None


def repository(folder: Path) -> Path | None:
    """The whole repository in the cache that a folder is a snapshot of, or lies in one; None for all others: a user's
    own models may lie beside repositories."""
    # A model in one file is a link to a blob, which says nothing of the snapshot.
    cache, path = cache_root(), folder.parent.resolve() / folder.name
    if not path.is_relative_to(cache):
        return None
    match path.relative_to(cache).parts:
        case (str(name), "snapshots", _, *_) if name.startswith(CACHED) and ".." not in path.parts:
            return cache / name
    return None
