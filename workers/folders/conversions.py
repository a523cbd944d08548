"""The folders that were made of .gguf files: of which file each, which are in use, and which may go."""

import contextlib
import fcntl
import os
from pathlib import Path

import msgspec

from mlx_server.workers.folders.cache_folder import remove
from mlx_server.workers.folders.kept_file import read_kept, write_kept

NAME = "source.json"


class Source(msgspec.Struct, frozen=True):
    """What a folder was made of: `path` is that of a model's first file, and `identity` is the folder's name."""

    path: str
    dtype: str
    identity: str


def folder_for_all(cache_dir: Path) -> Path:
    """Where they lie."""
    return cache_dir / "converted"


def record(folder: Path, source: Source) -> None:
    """Note in a folder what it was made of. Raises OSError."""
    write_kept(folder / NAME, source)


def made_of(path: Path, cache_dir: Path) -> dict[Path, Source]:
    """The folders that were made of a model with this first file, whatever it held then."""
    read = ((file.parent, read_kept(file, Source)) for file in sorted(folder_for_all(cache_dir).glob(f"[!.]*/{NAME}")))
    return {folder: source for folder, source in read if source is not None and source.path == str(path)}


def hold(folder: Path) -> bool:
    """Keep a folder from being dropped while this process lives; False if it has just been dropped.

    The kernel gives the lock back with the process, however it ends; nobody else closes its descriptor.
    """
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return folder.is_dir()
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if folder.is_dir():
        return True
    os.close(descriptor)
    return False


def drop_older(source: Source, cache_dir: Path) -> None:
    """Remove what was made of the same file when it was another one, or by another converter, and is not in use."""
    for folder, older in made_of(Path(source.path), cache_dir).items():
        if older.dtype == source.dtype and older.identity != source.identity:
            with contextlib.suppress(OSError), (folder / NAME).open() as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
