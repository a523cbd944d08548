"""A worker process without a supervisor: its parent reads, and says what it likes, when the test says so."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import TypeVar

import psutil

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.messages import FromWorker, Load, Ready
from mlx_server.workers.channel import Channel
from mlx_server.workers.parent.environment import child_environment

SPEC = Load("scripted", "scripted", 4, 512, "/dev/null/nowhere")
M = TypeVar("M")


class BareWorker:
    """A worker process whose parent is the test: it reads when the test says so."""

    def __init__(self, spec: Load = SPEC) -> None:
        self._spec = spec
        self.received: asyncio.Queue[FromWorker] = asyncio.Queue()
        self._closed = asyncio.Event()
        self._channel = Channel(messages.decode_from_worker, self.received.put_nowait, self._closed.set)
        self._ours, self._theirs = socket.socketpair()

    async def __aenter__(self) -> BareWorker:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mlx_server.workers",
            str(self._theirs.fileno()),
            "error",
            self._spec.cache_dir,
            self._spec.model_type,
            pass_fds=(self._theirs.fileno(),),
            env=child_environment(),
        )
        self._theirs.close()
        self._ours.setblocking(False)
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_connection(lambda: self._channel, sock=self._ours)
        self.send(self._spec)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._channel.close()
        await asyncio.wait_for(self.process.wait(), 20)

    async def ready(self) -> None:
        """Wait until it takes work."""
        await self.receives(Ready)

    def send(self, message: messages.ToWorker) -> None:
        """Send one message."""
        self._channel.send(message)

    async def receives(self, kind: type[M]) -> M:
        """The next message of a kind; others before it are lost."""
        while not isinstance(message := await self.received.get(), kind):
            pass
        return message

    def unread_bytes(self) -> int:
        """How much it has sent that was not read."""
        [count] = struct.unpack("i", fcntl.ioctl(self._ours, termios.FIONREAD, b"\0" * 4))
        return int(count)

    async def falls_quiet(self) -> None:
        """Wait until the process has used no processor time for a while."""
        process, used, since = psutil.Process(self.process.pid), -1.0, 0
        async with asyncio.timeout(20):
            while since < 10:
                now = sum(process.cpu_times()[:2])
                since = since + 1 if now <= used + 0.01 else 0
                used = now
                await asyncio.sleep(0.05)
