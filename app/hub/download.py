"""One download: what is kept of it, and how far it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from mlx_server.app.registry.rows import DownloadRow

RATE_OVER_S = 10.0


class DownloadStatus(StrEnum):
    """How a download stands."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The server ended before it did."""


LIVE = (DownloadStatus.WAITING, DownloadStatus.DOWNLOADING)
ENDS = tuple(status for status in DownloadStatus if status not in LIVE)
MOVES = {
    DownloadStatus.WAITING: {DownloadStatus.DOWNLOADING, *ENDS} - {DownloadStatus.COMPLETED},
    DownloadStatus.DOWNLOADING: set(ENDS),
    **{status: {DownloadStatus.WAITING} for status in ENDS},
}
"""Each that has ended may be started again."""


class DownloadStore(Protocol):
    """Where downloads are kept over restarts. Both raise sqlite3.Error."""

    async def downloads(self) -> Sequence[DownloadRow]:
        """All of them."""

    async def save_download(self, row: DownloadRow) -> object:
        """Keep one, in the place of the one with its id."""


class Download:
    """A download as it goes on. `folder` is set once it is completed."""

    def __init__(self, row: DownloadRow) -> None:
        self.row = row
        self.folder: Path | None = None
        self.ended = asyncio.Event()
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def id(self) -> str:
        """Its id."""
        return self.row.id

    @property
    def status(self) -> DownloadStatus:
        """How it stands."""
        return DownloadStatus(self.row.status)

    @property
    def live(self) -> bool:
        """Whether it is under way, or waits for its turn."""
        return self.status in LIVE

    @property
    def percent(self) -> float:
        """How much is here, of 100."""
        if self.status is DownloadStatus.COMPLETED:
            return 100.0
        return 100.0 * self.row.done_bytes / self.row.total_bytes if self.row.total_bytes else 0.0

    @property
    def bytes_per_s(self) -> float | None:
        """How fast it was in the last seconds; None if that can't be told."""
        if self.status is not DownloadStatus.DOWNLOADING or len(self._samples) < 2:
            return None
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        return (last - first) / (now - began) if now > began and last >= first else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to its end, at that pace."""
        speed = self.bytes_per_s
        return (self.row.total_bytes - self.row.done_bytes) / speed if speed else None

    def move(self, status: DownloadStatus, now: datetime, error: str | None = None) -> None:
        """Go on to another status. An illegal move is a mistake of ours."""
        assert status in MOVES[self.status], f"{self.status} to {status}"
        self.row = msgspec.structs.replace(self.row, status=status.value, error=error, updated_at=now)
        if self.live:
            self.ended.clear()
        else:
            self._samples.clear()
            self.ended.set()

    def arrived(self, done: int, total: int, now: datetime, seconds: float) -> None:
        """So much is here; `seconds` are of a clock that only goes forward."""
        self.row = msgspec.structs.replace(self.row, done_bytes=done, total_bytes=total, updated_at=now)
        self._samples.append((seconds, done))
        while len(self._samples) > 2 and self._samples[0][0] < seconds - RATE_OVER_S:
            self._samples.popleft()
