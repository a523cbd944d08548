"""The process that renders clients' templates, seen from outside: started when first needed, killed when it hangs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import msgspec
import psutil

CHILD = "mlx_server.workers.engine.templates.child"
START_S = 30.0
POLL_S = 0.05
MAX_ANSWER = 256 << 20
KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "TZ", "LANG", "LC_ALL")


class TemplateStopped(Exception):  # noqa: N818 - named for what happened
    """Raised when a template had to be stopped, or ended the process that rendered it."""


class TemplateFailed(Exception):  # noqa: N818 - named for what happened
    """Raised when a template is no template, or stops with an error."""


class TemplateRefused(Exception):  # noqa: N818 - named for what happened
    """Raised when a template refuses the conversation with an exception of its own."""


class Sandbox:
    """Renders templates that nobody vouches for, one at a time. Use it on one thread; `close` from any.

    `limit_s` is the wall-clock time that the requests of one `deadline` may take, `memory_bytes` what rendering may
    use. Linux holds to the memory by itself; elsewhere it is looked at every POLL_S seconds.
    """

    def __init__(self, *, limit_s: float = 2.0, memory_bytes: int = 512 << 20) -> None:
        self.limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._most_memory = 0

    @property
    def pid(self) -> int | None:
        """The process that is kept warm."""
        return None if self._process is None else self._process.pid

    def deadline(self) -> float:
        """When templates that begin now have to be done; starting the process does not count."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        return time.monotonic() + self.limit_s

    def render(self, template: str, context: dict[str, Any], deadline: float) -> str:
        """The text. Raises TemplateStopped, TemplateFailed and TemplateRefused."""
        return str(self._ask(template, context, deadline)["text"])

    def variables(self, template: str, deadline: float) -> frozenset[str]:
        """What it reads from outside. Raises TemplateStopped and TemplateFailed."""
        return frozenset(self._ask(template, None, deadline)["variables"])

    def close(self) -> None:
        """Kill the process. Idempotent; the next template starts another."""
        process, self._process = self._process, None
        channel, self._socket = self._socket, None
        if process is not None:
            process.kill()
            process.wait()
        if channel is not None:
            channel.close()

    def _ask(self, template: str, context: dict[str, Any] | None, deadline: float) -> dict[str, Any]:
        if time.monotonic() >= deadline:
            raise TemplateStopped(f"took longer than {self.limit_s:g} seconds")
        body = msgspec.json.encode({"template": template, "context": context})
        if self._process is None:
            self._start()
        try:
            answer = self._exchange(body, deadline)
        except TemplateStopped:
            self.close()
            raise
        except (OSError, ValueError):
            self.close()
            raise TemplateStopped("ended the process that rendered it") from None
        if "refused" in answer:
            raise TemplateRefused(answer["refused"])
        if "failed" in answer:
            raise TemplateFailed(answer["failed"])
        return answer

    def _exchange(self, body: bytes, deadline: float) -> dict[str, Any]:
        channel = self._socket
        if channel is None:
            raise OSError("closed meanwhile")
        try:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            channel.sendall(len(body).to_bytes(4, "big") + body)
        except TimeoutError:
            raise TemplateStopped(f"took longer than {self.limit_s:g} seconds") from None
        return self._answer(channel, deadline)

    def _answer(self, channel: socket.socket, deadline: float) -> dict[str, Any]:
        size = int.from_bytes(self._read(channel, 4, deadline), "big")
        if size > MAX_ANSWER:
            raise ValueError("no answer is as long as this")
        return dict(json.loads(self._read(channel, size, deadline)))

    def _read(self, channel: socket.socket, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TemplateStopped(f"took longer than {self.limit_s:g} seconds")
            channel.settimeout(min(left, POLL_S))
            try:
                piece = channel.recv(min(size - len(data), 1 << 20))
            except TimeoutError:
                self._check_memory()
                continue
            if not piece:
                raise OSError("the other side is gone")
            data += piece
        return bytes(data)

    def _check_memory(self) -> None:
        if self._most_memory and self._memory() > self._most_memory:
            raise TemplateStopped("needs too much memory")

    def _memory(self) -> int:
        with contextlib.suppress(psutil.Error, AttributeError):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def _start(self) -> None:
        """Raises OSError if no process can be had."""
        self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            # A second of processor time more than on the clock: this one is for when nobody is left to look at that.
            arguments = [str(self._memory_bytes), str(int(self.limit_s) + 1)]
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-B", "-m", CHILD, *arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C in a terminal is for the server
            )
        self._socket = ours
        self._most_memory = 0
        try:
            self._answer(ours, time.monotonic() + START_S)
        except (TemplateStopped, OSError, ValueError):
            self.close()
            raise OSError("the process for clients' chat templates can't be started") from None
        self._most_memory = self._memory() + self._memory_bytes
