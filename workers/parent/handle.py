"""What a supervisor knows of a worker process, wherever it runs, and who starts one for it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mlx_server.workers.parent.starts import Wanted


class StartRefused(OSError):  # noqa: N818 - named for the fact
    """Raised when a worker can't be started, and could not be at another time; the message is one line."""


class NoPlace(OSError):  # noqa: N818 - named for the fact
    """Raised when nobody can say where there is a place for a worker, or will be; the message is one line."""


class WorkerHandle(Protocol):
    """A worker process that was started. Everything here is for the event loop."""

    @property
    def pid(self) -> int | None:
        """Its process id, if it is a process of this machine and lives."""

    @property
    def lives(self) -> bool:
        """It has not ended, as far as is known."""

    async def connect(self, channel: asyncio.Protocol) -> None:
        """Have a channel carry its messages. Raises OSError."""

    def kill(self) -> None:
        """End it at once; the channel closes then."""

    async def ended(self, patience_s: float) -> None:
        """Returns once it has ended: by itself, or killed after that many seconds."""

    def obituary(self) -> str:
        """How it ended, as a sentence without its full stop."""


class Starts(Protocol):
    """Starts the workers of one replica, one after the other."""

    @property
    def distant(self) -> bool:
        """Its workers are on other machines: what fails on the way to them may pass, before the first is ready too."""

    async def start(self, wanted: Wanted, model_type: str) -> WorkerHandle:
        """A new process, as soon as there is a place for it. Raises OSError: StartRefused or NoPlace if it is that."""

    async def release(self) -> None:
        """The replica is over: its place is free."""
