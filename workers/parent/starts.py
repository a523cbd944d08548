"""Starts worker processes; one of them, the standby, ahead of its need: it has imported what it will need by then."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from types import TracebackType
from typing import NamedTuple, Self

from mlx_server.workers.parent.environment import child_environment


class Started(NamedTuple):
    """A worker process, whose output is a pipe, and our end of the socket that it talks over."""

    process: subprocess.Popen[bytes]
    socket: socket.socket


class Wanted(NamedTuple):
    """What is settled when a process starts: the cores that it computes on (None: all), how much it logs, and where it
    keeps what it has found out."""

    threads: int | None
    log_level: str
    cache_dir: str


class WorkerStarts:
    """In a `with` block. A standby that was never wanted ends with it, or with `close`; it also ends by itself, as any
    worker does, when this process is gone."""

    def __init__(self) -> None:
        self._standby: tuple[Wanted, Started] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    @property
    def standby_pid(self) -> int | None:
        """The process id of the standby; None where there is none that lives."""
        if self._standby is None or self._standby[1].process.poll() is not None:
            return None
        return self._standby[1].process.pid

    def ahead(self, wanted: Wanted, *model_types: str) -> None:
        """Start a standby that will probably serve a model of one of these types. Raises OSError."""
        self.close()
        self._standby = wanted, start(wanted, *model_types)

    def fits(self, wanted: Wanted) -> bool:
        """Whether there is a standby that lives and is what is wanted."""
        return self.standby_pid is not None and self._standby is not None and self._standby[0] == wanted

    def start(self, wanted: Wanted, model_type: str) -> Started:
        """The standby if it fits, else a new process. Raises OSError."""
        if self._standby is not None and self.fits(wanted):
            started, self._standby = self._standby[1], None
            return started
        return start(wanted, model_type)

    def buried(self) -> bool:
        """Whether there was a standby that died by itself; it is forgotten then."""
        if self._standby is None or self.standby_pid is not None:
            return False
        self.close()
        return True

    def close(self) -> None:
        """End the standby, if there is one."""
        if self._standby is not None:
            (_, (process, ours)), self._standby = self._standby, None
            ours.close()
            with process:  # its end closes the pipe and waits
                process.kill()


def start(wanted: Wanted, *model_types: str) -> Started:
    """A process that imports what models of these types need, and waits for its first message. Raises OSError."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        try:
            process = spawn(theirs, wanted, *model_types, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError:
            ours.close()
            raise
    return Started(process, ours)


def spawn(
    sock: socket.socket, wanted: Wanted, *model_types: str, stdin: int | None, stdout: int | None
) -> subprocess.Popen[bytes]:
    """The process alone, with a socket that it inherits: one to talk over, or to be called on. Raises OSError."""
    words, descriptor = (sys.executable, "-P", "-m", "mlx_server.workers"), sock.fileno()
    return subprocess.Popen(  # noqa: S603 - our own module
        [*words, str(descriptor), wanted.log_level, wanted.cache_dir, *model_types],
        pass_fds=(descriptor,),
        env=child_environment(threads=wanted.threads),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        # Ctrl-C in a terminal is for the parent, which drains first.
        start_new_session=True,
    )


def bury(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started itself (a conversion): it leads a session of its own. Blocks."""
    process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
