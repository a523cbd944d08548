"""The accelerator is one for the whole machine: worker processes take turns on it, a step each."""

from __future__ import annotations

import fcntl
import os
import stat
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from mlx_server.schemas.internal.messages import LeaseUse


class LeaseError(Exception):
    """Raised when the files that the lease is made of can't be had; the message is one line for the operator."""


class Turns(Protocol):
    """Turns on the accelerator, as the one thread sees them that computes. Only `stop` is for other threads."""

    @property
    def held(self) -> bool:
        """It is this process's turn, and others wait until it is given back."""

    @property
    def wanted(self) -> bool:
        """Another process waits for its turn."""

    def acquire(self) -> bool:
        """Wait for the turn, unless it is held; False if `stop` was called meanwhile."""

    def release(self) -> None:
        """Give the turn back, if it is held."""

    def stop(self) -> None:
        """End the waiting, now and for ever. Any thread may call it."""


class Lease:
    """An advisory lock on a file: the kernel gives it back when its holder dies, however it dies.

    Who holds it may let go and take it again before anybody that waits has woken. So whoever wants it passes a
    turnstile, a second lock that is kept while waiting for the first: the holder then waits at the turnstile behind
    the one that waits for the holder.

    A lock can't be waited for with an eye on anything else, so a helper thread waits where the lock isn't free.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is made if need be, for this user alone. Raises LeaseError."""
        self._folder = folder
        self._helper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lease")
        self._stopped: Future[None] = Future()
        self._held = False
        self._turnstile, self._holder = open_locks(folder)

    @property
    def held(self) -> bool:
        """It is this process's turn, and others wait until it is given back."""
        return self._held

    @property
    def wanted(self) -> bool:
        """Another process waits for its turn, or can't see that this one has it."""
        if self._gone() or not try_lock(self._turnstile):
            return True
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        return False

    def acquire(self) -> bool:
        """Wait for the turn, unless it is held; False if `stop` was called meanwhile. Raises LeaseError."""
        if self._held:
            return True
        if self._stopped.done():
            return False
        if not self._try():
            waiting = self._helper.submit(self._wait)
            wait((waiting, self._stopped), return_when=FIRST_COMPLETED)
            if not waiting.done():
                waiting.add_done_callback(lambda _: fcntl.flock(self._holder, fcntl.LOCK_UN))
                return False
            waiting.result()
        self._held = True
        return True

    def release(self) -> None:
        """Give the turn back, if it is held."""
        if self._held:
            self._held = False
            fcntl.flock(self._holder, fcntl.LOCK_UN)

    def stop(self) -> None:
        """End the waiting, now and for ever. Any thread may call it."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    def _try(self) -> bool:
        if not try_lock(self._turnstile):
            return False
        got = try_lock(self._holder)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        if got and self._gone():
            self._reopen()
            return False
        return got

    def _wait(self) -> None:
        while True:
            fcntl.flock(self._turnstile, fcntl.LOCK_EX)
            fcntl.flock(self._holder, fcntl.LOCK_EX)
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
            if not self._gone():
                return
            self._reopen()

    def _gone(self) -> bool:
        """Whether somebody has tidied the files away, so that newcomers lock others."""
        return not (os.fstat(self._turnstile).st_nlink and os.fstat(self._holder).st_nlink)

    def _reopen(self) -> None:
        os.close(self._turnstile)
        os.close(self._holder)
        self._turnstile, self._holder = open_locks(self._folder)


def make_lease(use: LeaseUse, *, accelerated: bool) -> Turns | None:
    """Turns as the operator wants them: `auto` takes them where computing is `accelerated`. None where processes
    compute as they like. Raises LeaseError."""
    if use == "on" or (use == "auto" and accelerated):
        return Lease(machine_folder())
    return None


def machine_folder() -> Path:
    """Where all of a user's processes meet. Not where TMPDIR points: that may differ from session to session."""
    return Path(f"/tmp/mlx-server-{os.getuid()}")  # noqa: S108 - nobody else may own it, which is checked


def open_locks(folder: Path) -> tuple[int, int]:
    """The turnstile's and the holder's file. Raises LeaseError where the folder isn't this user's alone."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(directory)
            if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise LeaseError(f"{folder} must belong to this user alone (mode 0700): accelerator lease")
            # Not inherited by processes that are started later: they would keep the lock of a dead worker.
            turnstile, holder = (
                os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
                for name in ("turnstile", "holder")
            )
        finally:
            os.close(directory)
    except OSError as error:
        raise LeaseError(f"the accelerator lease can't be had in {folder}: {error.strerror or error}") from error
    return turnstile, holder


def try_lock(file: int) -> bool:
    """Lock a file if nobody has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
