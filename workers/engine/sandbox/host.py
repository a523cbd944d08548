"""A process for what nobody vouches for, seen from outside: started when first needed, killed when it hangs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import Any

import msgspec
import psutil

from mlx_server.workers.engine.cancellation import IsCancelled, never

START_S = 30.0
POLL_S = 0.05
KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "TZ", "LANG", "LC_ALL")


class Stopped(Exception):  # noqa: N818 - named for what happened
    """Raised when the work had to be stopped, or ended the process that did it."""


class KillableProcess:
    """Runs `python -m child`, one request at a time. Use it on one thread; `close` from any.

    `limit_s` is the wall-clock time that the requests of one `deadline` may take, `cpu_s` the processor time of one
    request (for when nobody is left to look at the clock), `memory_bytes` what may be used above what the start took.
    Linux holds to the memory by itself; elsewhere it is looked at every POLL_S seconds. `greeting` is told to each new
    process before anything is asked; no answer is longer than `max_answer` bytes.
    """

    def __init__(
        self,
        child: str,
        *,
        limit_s: float,
        cpu_s: int,
        memory_bytes: int,
        greeting: dict[str, Any] | None = None,
        max_answer: int = 256 << 20,
    ) -> None:
        self.limit_s = limit_s
        self._max_answer = max_answer
        self._child = child
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._greeting = greeting or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._most_memory = 0

    @property
    def pid(self) -> int | None:
        """The process that is kept warm."""
        return None if self._process is None else self._process.pid

    def deadline(self) -> float:
        """When what begins now has to be done; starting the process does not count."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        return time.monotonic() + self.limit_s

    def ask(self, request: dict[str, Any], deadline: float, abandoned: IsCancelled = never) -> dict[str, Any]:
        """The child's answer. Raises Stopped, also within POLL_S seconds of being `abandoned`."""
        self._check_time(deadline, abandoned)
        body = msgspec.msgpack.encode(request)
        if self._process is None:
            self._start()
        try:
            return self._exchange(body, deadline, abandoned)
        except Stopped:
            self.close()
            raise
        except (OSError, ValueError, msgspec.DecodeError):
            self.close()
            raise Stopped("ended the process that tried it") from None

    def close(self) -> None:
        """Kill the process. Idempotent; the next request starts another."""
        process, self._process = self._process, None
        channel, self._socket = self._socket, None
        if process is not None:
            process.kill()
            process.wait()
        if channel is not None:
            channel.close()

    def _exchange(self, body: bytes, deadline: float, abandoned: IsCancelled = never) -> dict[str, Any]:
        channel = self._socket
        if channel is None:
            raise OSError("closed meanwhile")
        try:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            channel.sendall(len(body).to_bytes(4, "big") + body)
        except TimeoutError:
            raise Stopped(f"took longer than {self.limit_s:g} seconds") from None
        return self._answer(channel, deadline, abandoned)

    def _answer(self, channel: socket.socket, deadline: float, abandoned: IsCancelled) -> dict[str, Any]:
        size = int.from_bytes(self._read(channel, 4, deadline, abandoned), "big")
        if size > self._max_answer:
            raise ValueError("no answer is as long as this")
        return msgspec.msgpack.decode(self._read(channel, size, deadline, abandoned), type=dict[str, Any])

    def _read(self, channel: socket.socket, size: int, deadline: float, abandoned: IsCancelled) -> bytearray:
        data = bytearray(size)
        there = 0
        while there < size:
            self._check_time(deadline, abandoned)
            channel.settimeout(min(max(deadline - time.monotonic(), 0.001), POLL_S))
            try:
                count = channel.recv_into(memoryview(data)[there:])
            except TimeoutError:
                self._check_memory()
                continue
            if not count:
                raise OSError("the other side is gone")
            there += count
        return data

    def _check_time(self, deadline: float, abandoned: IsCancelled) -> None:
        if time.monotonic() >= deadline:
            raise Stopped(f"took longer than {self.limit_s:g} seconds")
        if abandoned():
            raise Stopped("is no longer waited for")

    def _check_memory(self) -> None:
        if self._most_memory and self._memory() > self._most_memory:
            raise Stopped("needs too much memory")

    def _memory(self) -> int:
        with contextlib.suppress(psutil.Error, AttributeError):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def _start(self) -> None:
        """Raises OSError if no process can be had."""
        self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-B", "-m", self._child, str(self._memory_bytes), str(self._cpu_s)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C in a terminal is for the server
            )
        self._socket = ours
        self._most_memory = 0
        try:
            self._exchange(msgspec.msgpack.encode(self._greeting), time.monotonic() + START_S)
        except (Stopped, OSError, ValueError, msgspec.DecodeError):
            self.close()
            raise OSError(f"the process {self._child} can't be started") from None
        self._most_memory = self._memory() + self._memory_bytes
