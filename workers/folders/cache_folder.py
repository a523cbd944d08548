"""Folders that are expensive to make, made once: whole or not at all, and by one process at a time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH_PREFIX = ".scratch-"


def make_once(final: Path, build: Callable[[Path], Path], report: Callable[[str], None]) -> Path:
    """Return `final`, made by `build` unless it is there already.

    `build` gets an empty scratch folder beside `final` and returns the folder inside it that becomes `final`.
    Whatever else it leaves in the scratch folder is removed, also when it raises. A second process that wants
    a folder with the same parent waits for the first. Raises `OSError` where the cache cannot be written.
    """
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.parent, report):
        if final.is_dir():
            return final
        for stale in final.parent.glob(f"{_SCRATCH_PREFIX}*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=_SCRATCH_PREFIX, dir=final.parent, ignore_cleanup_errors=True
        ) as scratch:
            _move(build(Path(scratch)), final)
    return final


def remove(folder: Path) -> None:
    """Remove a folder, for everybody else at once. Raises `OSError`."""
    gone = folder.with_name(f"{_SCRATCH_PREFIX}{folder.name}")
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _move(built: Path, final: Path) -> None:
    try:
        os.rename(built, final)
    except OSError:
        # A network file system may ignore the lock: then another process can have won.
        if not final.is_dir():
            raise


@contextmanager
def _locked(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    # The kernel gives the lock back when its holder dies, however it dies; the file itself stays.
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"Waiting for another process that is writing to {folder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
