"""Files of results: what is written is on the disk before it counts, and ends where what counts ends."""

from __future__ import annotations

import os
from pathlib import Path


def write_at(path: Path, data: bytes, at: int) -> None:
    """Write to a file, made if need be, at a place; it is on the disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with memoryview(data) as rest:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, rest[written:], at + written)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_off(path: Path, size: int) -> None:
    """Have a file end after so many bytes, made if need be: what a kill left behind them is nothing. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
