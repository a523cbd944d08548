"""Files of results: what is written is on the disk before it counts, and ends where what counts ends."""

from __future__ import annotations

import os
from pathlib import Path

from mlx_server.app.storage.durable import sync, sync_folder


def write_at(path: Path, data: bytes, at: int) -> None:
    """Write to a file, made if need be, at a place; it is on the disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with memoryview(data) as rest:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, rest[written:], at + written)
        sync(descriptor)
    finally:
        os.close(descriptor)
    if not at:
        sync_folder(path.parent)


def cut_off(path: Path, size: int) -> None:
    """Have a file end after so many bytes, an empty one made if need be: what a kill left behind them is nothing.

    Raises OSError, also where it has fewer.
    """
    descriptor = os.open(path, os.O_WRONLY if size else os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        if (found := os.fstat(descriptor).st_size) < size:
            raise OSError(f"{path} has {found} of {size} bytes")
        os.ftruncate(descriptor, size)
        sync(descriptor)
    finally:
        os.close(descriptor)
