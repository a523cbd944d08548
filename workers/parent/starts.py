"""Starts worker processes; one of them, the standby, ahead of its need: it has imported what it will need by then. The
first one may even begin before anybody knows what for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from mlx_server.workers.parent.environment import child_environment

WORKER = "mlx_server.workers"


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

    def words(self, *model_types: str) -> tuple[str, ...]:
        """What a worker is started with, or told: it imports what models of these types need."""
        return self.log_level, self.cache_dir, *model_types


class WorkerStarts:
    """In a `with` block. A standby that was never wanted ends with it, or with `close`; it also ends by itself, as any
    worker does, when this process is gone."""

    def __init__(self) -> None:
        self._standby: tuple[Wanted, Started] | None = None
        self._begun: tuple[int, Started] | None = None

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

    def begin(self, threads: int) -> None:
        """Start a process that computes on so many cores, and is told all else by `ahead`. Raises OSError."""
        self.close()
        self._begun = threads, start_worker(threads)

    def ahead(self, wanted: Wanted, *model_types: str) -> None:
        """Start a standby that will probably serve a model of one of these types, or tell the process that has begun.
        Raises OSError."""
        if self._begun is not None and self._begun[0] == wanted.threads:
            (_, started), self._begun = self._begun, None
            self.close()
            self._standby = wanted, started
            tell(started.socket, wanted.words(*model_types))
        else:
            self.close()
            self._standby = wanted, start_worker(wanted.threads, *wanted.words(*model_types))

    def fits(self, wanted: Wanted) -> bool:
        """Whether there is a standby that lives and is what is wanted."""
        return self.standby_pid is not None and self._standby is not None and self._standby[0] == wanted

    def start(self, wanted: Wanted, model_type: str) -> Started:
        """The standby if it fits, else a new process. Raises OSError."""
        if self._standby is not None and self.fits(wanted):
            started, self._standby = self._standby[1], None
            return started
        return start_worker(wanted.threads, *wanted.words(model_type))

    def buried(self) -> bool:
        """Whether there was a standby that died by itself; it is forgotten then."""
        if self._standby is None or self.standby_pid is not None:
            return False
        self.close()
        return True

    def close(self) -> None:
        """End the standby, if there is one, and what has begun."""
        unwanted = [one[1] for one in (self._standby, self._begun) if one is not None]
        self._standby = self._begun = None
        for process, ours in unwanted:
            ours.close()
            with process:  # its end closes the pipe and waits
                process.kill()


def start_worker(threads: int | None, *words: str) -> Started:
    """A process that computes on so many cores and waits for its first message; without `words` it waits to be told
    them first. Raises OSError."""
    return start(WORKER, *words, env=child_environment(threads=threads))


def start(module: str, *words: str, env: Mapping[str, str] | None = None) -> Started:
    """A process that runs one of our modules, which finds its end of a socket in its first word. Raises OSError."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        try:
            process = spawn(module, theirs, *words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        except OSError:
            ours.close()
            raise
    return Started(process, ours)


def spawn(
    module: str,
    sock: socket.socket,
    *words: str,
    env: Mapping[str, str] | None,
    stdin: int | None = None,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """The process alone, with a socket that it inherits: one to talk over, or to be called on. Raises OSError."""
    descriptor = sock.fileno()
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", module, str(descriptor), *words],
        pass_fds=(descriptor,),
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        # Ctrl-C in a terminal is for the parent, which drains first.
        start_new_session=True,
    )


def tell(sock: socket.socket, words: Sequence[str]) -> None:
    """Tell a process its words: their length in four bytes, and JSON. Raises OSError if it is gone."""
    body = json.dumps(words).encode()
    sock.sendall(len(body).to_bytes(4, "big") + body)


def told(sock: socket.socket) -> list[str]:
    """The words that this process is told, for which it waits; none if the other one is gone."""
    length = int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big")
    return list(json.loads(sock.recv(length, socket.MSG_WAITALL) or b"[]"))


def bury(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started itself (a conversion): it leads a session of its own. Blocks."""
    process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
