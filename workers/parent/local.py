"""Worker processes of this machine: the front end's own children."""

from __future__ import annotations

import asyncio
import signal

from mlx_server.workers.parent.printed import tell
from mlx_server.workers.parent.starts import Started, Wanted, WorkerStarts, bury

LAST_WORDS_S = 1.0
"""How long to wait for the end of what a worker that is gone has printed: what it started may still hold the pipe."""


class LocalWorker:
    """A child process, and the socket pair to it."""

    def __init__(self, started: Started) -> None:
        self._process, self._socket = started
        self._printed = tell(self._process)

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        return self._process.pid if self.lives else None

    @property
    def lives(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    async def connect(self, channel: asyncio.Protocol) -> None:
        """Have a channel carry its messages. Raises OSError."""
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=self._socket)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    async def ended(self, patience_s: float) -> None:
        """Returns once it has ended: by itself, or killed after that many seconds."""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._process.wait), patience_s)
        except TimeoutError:
            self._process.kill()
        await asyncio.to_thread(bury, self._process)
        await asyncio.to_thread(self._printed.join, LAST_WORDS_S)

    def obituary(self) -> str:
        """How it ended."""
        code = self._process.poll()
        if code is not None and code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"The worker process died of {names.get(-code, f'signal {-code}')}"
        return f"The worker process exited with code {code}"


class LocalStarts:
    """Starts them, and takes the standby where it fits."""

    distant = False

    def __init__(self, starts: WorkerStarts | None = None) -> None:
        self._starts = starts or WorkerStarts()

    async def start(self, wanted: Wanted, model_type: str) -> LocalWorker:
        """A new process. Raises OSError."""
        return LocalWorker(self._starts.start(wanted, model_type))

    async def release(self) -> None:
        """A process of this machine leaves no place behind."""
