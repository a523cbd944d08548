"""Files of the one folder that requests may name with file:// URLs."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlx_server.app.media.inline import bounded
from mlx_server.app.media.problem import MediaProblem, TooLarge

NO_SUCH_FILE = "there is no such file in the folder that this server allows (--allowed-media-dir)"
"""The same for what is not there, what is no file, and what is somewhere else."""


def read_file(directory: Path | None, url: str, most_bytes: int) -> bytes:
    """A file below the directory, wherever symbolic links lead within it. Raises MediaProblem."""
    if directory is None:
        raise MediaProblem("this server reads no file:// URLs (it was started without --allowed-media-dir)")
    try:
        parts = urlsplit(url)
        if parts.netloc.lower() not in ("", "localhost"):
            raise MediaProblem("a file:// URL names no host: 'file:///folder/picture.png' would be one")
        root = directory.resolve(strict=True)
        inside = Path(unquote(parts.path, errors="strict")).resolve(strict=True).relative_to(root)
        descriptor = open_below(root, inside)
        try:
            return read_descriptor(descriptor, most_bytes)
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RuntimeError):
        raise MediaProblem(NO_SUCH_FILE) from None


def read_descriptor(descriptor: int, most_bytes: int) -> bytes:
    """What an open file holds. Raises MediaProblem, or OSError."""
    details = os.fstat(descriptor)
    if not stat.S_ISREG(details.st_mode):
        raise MediaProblem(NO_SUCH_FILE)
    if details.st_size > most_bytes:
        raise TooLarge(most_bytes)
    with open(descriptor, "rb", closefd=False) as file:
        return bounded(file.read(most_bytes + 1), most_bytes)


def open_below(root: Path, inside: Path) -> int:
    """A descriptor of a file, by a path without symbolic links: one that appears meanwhile is not followed.

    Raises OSError.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    at = os.open(root, flags | os.O_DIRECTORY)
    for part in inside.parts:
        try:
            below = os.open(part, flags, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at
