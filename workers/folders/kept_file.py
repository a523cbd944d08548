"""Small files of what was found out, which may go at any time: read if they are whole, written as a whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_kept(file: Path, kind: type[T]) -> T | None:
    """What a file holds; None if it is not there, can't be read, is damaged, or holds something else."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write_kept(file: Path, value: object) -> None:
    """Put a file in its place, whole or not at all. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=".scratch-")
    try:
        with open(handle, "wb") as out:
            out.write(msgspec.json.encode(value))
        os.replace(scratch, file)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
