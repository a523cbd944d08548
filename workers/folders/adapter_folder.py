"""Which adapters requests may name: folders directly under one folder. Front end and worker ask the same."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

NO_ADAPTER = "none"
"""The name that asks for the model as it is, where a default adapter is configured."""

CONFIG = "adapter_config.json"
SHOWN = 20


def find_adapter(folder: Path, name: str) -> Path | None:
    """The adapter that a client means, by its name or its absolute path, with links resolved.

    None for whatever does not lie directly under `folder`, and for what is no adapter.
    """
    given = Path(name)
    if not given.is_absolute() and given.parts != (name,):
        return None
    try:
        path = (folder / given).resolve()
        return path if path.parent == folder.resolve() and (path / CONFIG).is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a null byte
        return None


def list_adapters(folder: Path) -> str:
    """What there is, for a client that named something else; at most so many names."""
    try:
        found = (entry.name for entry in folder.iterdir() if find_adapter(folder, entry.name) is not None)
        names = list(islice(found, SHOWN + 1))
    except OSError:
        names = []
    if not names:
        return "none at the moment"
    return ", ".join([*sorted(names[:SHOWN]), *["…"] * (len(names) > SHOWN)])
