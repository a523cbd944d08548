"""Starts worker processes; one of them ahead of its need, so that it imports what it will need meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
from types import TracebackType
from typing import NamedTuple, Self

from mlx_server.workers.parent.environment import child_environment

STDERR = 2
"""What models' code prints goes where the log goes."""


class Started(NamedTuple):
    """A worker process, and our end of the socket that it talks over."""

    process: subprocess.Popen[bytes]
    socket: socket.socket


class Wanted(NamedTuple):
    """What is settled when a process starts: the cores that it computes on (None: all), how much it logs, and where it
    keeps what it has found out."""

    threads: int | None
    log_level: str
    cache_dir: str


class WorkerStarts:
    """In a `with` block. A process that was started ahead and never wanted ends with it."""

    def __init__(self) -> None:
        self._ahead: tuple[Wanted, Started] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._drop()

    def ahead(self, wanted: Wanted, model_type: str) -> None:
        """Start one now that will probably serve a model of this type. Raises OSError."""
        self._drop()
        self._ahead = wanted, start(wanted, model_type)

    def start(self, wanted: Wanted, model_type: str) -> Started:
        """The process that was started ahead, if it is what is wanted and lives, else a new one. Raises OSError."""
        if self._ahead is not None and self._ahead[0] == wanted and self._ahead[1].process.poll() is None:
            started, self._ahead = self._ahead[1], None
            return started
        return start(wanted, model_type)

    def _drop(self) -> None:
        if self._ahead is not None:
            (_, (process, ours)), self._ahead = self._ahead, None
            ours.close()
            process.kill()
            process.wait()


def start(wanted: Wanted, model_type: str) -> Started:
    """A process that imports what models of this type need, and waits for its first message. Raises OSError."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        words, descriptor = (sys.executable, "-P", "-m", "mlx_server.workers"), theirs.fileno()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*words, str(descriptor), wanted.log_level, model_type, wanted.cache_dir],
                pass_fds=(descriptor,),
                env=child_environment(threads=wanted.threads),
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                # Ctrl-C in a terminal is for the parent, which drains first.
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    return Started(process, ours)
