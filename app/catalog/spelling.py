"""Files' names as they are written on the disk."""

from __future__ import annotations

import os
from pathlib import Path


def is_spelled_so(path: Path, root: Path) -> bool:
    """Whether the folders from `root` down to a path in it list it by these names, as far as they may be listed.

    A Mac's disk finds `TINY`, too, where there is `tiny`, and each name would be a model of its own.
    """
    folders = [path, *path.parents]
    return all(is_listed(place) for place in folders[: folders.index(root)])


def is_listed(path: Path) -> bool:
    """Whether its folder lists it; True if that can't be known."""
    try:
        return path.name in os.listdir(path.parent)
    except OSError:
        return True
