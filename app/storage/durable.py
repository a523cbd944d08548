"""What has to be there after a power cut too: it reaches the disk itself, and so do the names by which it is found."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""A Mac's own command: its `fsync` ends at the disk's cache, which a power cut empties."""

NO_SUCH_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What filesystems say that sync no folders."""


def sync(descriptor: int, full: int | None = FULL_SYNC) -> None:
    """Have what an open file or folder holds reach the disk. Raises OSError."""
    if full is not None:
        with suppress(OSError):  # not every disk knows it
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """The same of a file by its path. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Have the names in a folder reach the disk, where it can be asked for that. Raises OSError."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in NO_SUCH_SYNC:
            raise


def link_file(source: Path, target: Path) -> None:
    """Give a file one more name, which is on the disk when this returns. Raises OSError."""
    os.link(source, target)
    sync_folder(target.parent)
