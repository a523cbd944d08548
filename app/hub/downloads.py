"""All downloads: a few at once, each in a process of its own, one for each repository."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mlx_server.app.catalog.hub_cache import repository_of
from mlx_server.app.hub.download import LIVE, Download, DownloadStatus, DownloadStore
from mlx_server.app.hub.downloader import fetch
from mlx_server.app.hub.owner import lives, owner_of
from mlx_server.app.registry.rows import DownloadRow
from mlx_server.workers.hub.access import HubAccess, check_hub_id
from mlx_server.workers.hub.errors import HubError

log = logging.getLogger(__name__)

SAVE_EVERY_S = 5.0
MOST = 100
"""Downloads that run or wait."""

Watcher = Callable[[Download], None]
Installed = Callable[[Download], Awaitable[None]]
"""Is awaited with a download whose `folder` is whole, before it counts as completed. May raise HubError."""


class DownloadNotFound(HubError):  # noqa: N818 - named for the fact
    """Raised when there is no download of that id."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"There is no download {id_}.")


class DownloadUnderWay(HubError):  # noqa: N818 - named for the fact
    """Raised when a repository is being downloaded under another name."""

    def __init__(self, row: DownloadRow) -> None:
        super().__init__(
            f"{row.hub_id} is being downloaded as {row.name!r} ({row.id}): wait until it is there, or cancel it first."
        )


class DownloadElsewhere(HubError):  # noqa: N818 - named for the fact
    """Raised when another server on this machine has a download under way that this one is to end."""

    def __init__(self, row: DownloadRow) -> None:
        super().__init__(f"{row.hub_id} is being downloaded by another server ({row.id}): cancel it there.")


class TooManyDownloads(HubError):  # noqa: N818 - named for the fact
    """Raised when as many downloads run and wait as may."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} downloads run or wait already: wait until one has ended, or cancel one.")


class MemoryStore:
    """Downloads that are forgotten when the server ends."""

    def __init__(self) -> None:
        self._rows: dict[str, DownloadRow] = {}

    async def downloads(self) -> Sequence[DownloadRow]:
        """All of them."""
        return list(self._rows.values())

    async def save_download(self, row: DownloadRow) -> None:
        """Keep one."""
        self._rows[row.id] = row


class Downloads:
    """At most `at_once` run, others wait. What has arrived is kept whatever ends one, and the next start goes on.

    Each repository has one download, which may be started again when it has ended. Several servers may share a store:
    what another one has under way is told, and left to it. A store that can't be written is a line in the log, and
    ends none.
    """

    def __init__(
        self,
        access: HubAccess | None = None,
        store: DownloadStore | None = None,
        *,
        at_once: int = 2,
        installed: Installed | None = None,
    ) -> None:
        self._access = access or HubAccess.from_environment()
        self._store: DownloadStore = store or MemoryStore()
        self._installed = installed
        self._owner = owner_of()
        self._semaphore = asyncio.Semaphore(at_once)
        self._downloads: dict[str, Download] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watchers: list[Watcher] = []

    async def open(self) -> None:
        """Read what is kept; what was under way when its server ended is interrupted."""
        for row in await self._store.downloads():
            if self._is_elsewhere(row):
                continue
            download = self._downloads[row.id] = Download(row)
            if download.live:
                download.move(DownloadStatus.INTERRUPTED, now())
                await self._save(download)
            download.ended.set()

    async def start(
        self, hub_id: str, *, name: str | None = None, force: bool = False, auto_load: bool = False
    ) -> Download:
        """Download a repository, or go on with it; one that is under way is joined.

        `name` is what the model will be called, its hub id if None. `force` downloads all of it again. Raises
        NotAHubId, DownloadUnderWay or TooManyDownloads.
        """
        check_hub_id(hub_id)
        existing = next((one for one in self._downloads.values() if one.row.hub_id == hub_id), None)
        if existing is not None and existing.live:
            if name not in (None, existing.row.name):
                raise DownloadUnderWay(existing.row)
            existing.row = msgspec.structs.replace(existing.row, auto_load=existing.row.auto_load or auto_load)
            return existing
        if sum(one.live for one in self._downloads.values()) >= MOST:
            raise TooManyDownloads(MOST)
        download = existing or Download(new_row(hub_id))
        download.row = msgspec.structs.replace(
            download.row, name=name or hub_id, auto_load=auto_load, done_bytes=0, owner=self._owner
        )
        if existing is None:
            self._downloads[download.id] = download
        else:
            download.move(DownloadStatus.WAITING, now())
        task = self._tasks[download.id] = asyncio.create_task(self._run(download, force))
        task.add_done_callback(lambda task: self._done(download, task))
        await self._changed(download)
        return download

    def get(self, id_: str) -> Download:
        """The download of that id. Raises DownloadNotFound."""
        if (download := self._downloads.get(id_)) is None:
            raise DownloadNotFound(id_)
        return download

    def all(self) -> list[Download]:
        """All that this server knows, the newest first."""
        return newest_first(self._downloads.values())

    async def everywhere(self) -> list[Download]:
        """All, also those of other servers on the same store, as far as it tells; the newest first."""
        try:
            rows = await self._store.downloads()
        except sqlite3.Error as error:
            log.error("the registry does not tell what others download: %s", error)
            return self.all()
        found = dict(self._downloads)
        for row in rows:
            own = found.get(row.id)
            if own is None or (not own.live and row.updated_at > own.row.updated_at):
                found[row.id] = Download(row)
                if found[row.id].live and not self._is_elsewhere(row):
                    found[row.id].move(DownloadStatus.INTERRUPTED, row.updated_at)
        return newest_first(found.values())

    async def find(self, id_: str) -> Download:
        """The same of that id. Raises DownloadNotFound."""
        for download in await self.everywhere():
            if download.id == id_:
                return download
        raise DownloadNotFound(id_)

    async def cancel(self, id_: str) -> Download:
        """End it; its process is gone when this returns. Nothing if it has ended. Raises DownloadNotFound, or
        DownloadElsewhere."""
        download = await self.find(id_)
        if download.live:
            if self._is_elsewhere(download.row):
                raise DownloadElsewhere(download.row)
            await self._end(download, DownloadStatus.CANCELLED)
        return download

    async def clear(self, name: str, folders: Sequence[Path]) -> None:
        """Cancel those of a model of this name, and of repositories that the hub's cache has in these folders."""
        for download in self.all():
            if download.live and (download.row.name == name or repository_of(download.row.hub_id) in folders):
                await self.cancel(download.id)

    async def wait(self, id_: str) -> Download:
        """Wait until it has ended, one way or another. Raises DownloadNotFound."""
        download = self.get(id_)
        await download.ended.wait()
        return download

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` whenever a download changes, a few times a second; returns what ends that."""
        self._watchers.append(watcher)

        def unwatch() -> None:
            with suppress(ValueError):
                self._watchers.remove(watcher)

        return unwatch

    async def close(self) -> None:
        """End all; they can be gone on with after the next start."""
        for download in self._downloads.values():
            if download.live:
                await self._end(download, DownloadStatus.INTERRUPTED)

    def _is_elsewhere(self, row: DownloadRow) -> bool:
        """Whether another server has it under way."""
        other = row.owner if row.owner != self._owner else None
        return DownloadStatus(row.status) in LIVE and other is not None and lives(other)

    async def _end(self, download: Download, status: DownloadStatus) -> None:
        task = self._tasks[download.id]
        task.cancel()
        download.move(status, now())
        await asyncio.wait([task])
        await self._changed(download)

    def _done(self, download: Download, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("download of %s failed", download.row.hub_id, exc_info=error)
            if download.live:
                download.move(DownloadStatus.FAILED, now(), "The server failed to download it.")
                self._notify(download)

    async def _run(self, download: Download, force: bool) -> None:
        saved_at = float("-inf")

        async def report(done: int, total: int) -> None:
            nonlocal saved_at
            seconds = time.monotonic()
            download.arrived(done, total, now(), seconds)
            self._notify(download)
            if seconds - saved_at >= SAVE_EVERY_S:
                saved_at = seconds
                await self._save(download)

        async with self._semaphore:
            try:
                download.move(DownloadStatus.DOWNLOADING, now())
                await self._changed(download)
                download.folder = await fetch(download.row.hub_id, self._access, report, force=force)
                if self._installed is not None:
                    await self._installed(download)
            except HubError as error:
                log.warning("download of %s failed: %s", download.row.hub_id, error)
                download.move(DownloadStatus.FAILED, now(), str(error))
            else:
                download.move(DownloadStatus.COMPLETED, now())
        await self._changed(download)

    async def _changed(self, download: Download) -> None:
        self._notify(download)
        await self._save(download)

    async def _save(self, download: Download) -> None:
        """Keep how it stands; where that can't be, what is downloaded is worth more."""
        try:
            await self._store.save_download(download.row)
        except sqlite3.Error as error:
            log.error("the registry does not keep the download of %s: %s", download.row.hub_id, error)

    def _notify(self, download: Download) -> None:
        for watcher in tuple(self._watchers):
            watcher(download)


def newest_first(downloads: Iterable[Download]) -> list[Download]:
    """By when they were started the first time."""
    return sorted(downloads, key=lambda download: download.row.created_at, reverse=True)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def new_row(hub_id: str) -> DownloadRow:
    """A download that waits for its turn."""
    time_ = now()
    return DownloadRow(
        id=f"download-{secrets.token_hex(6)}",
        hub_id=hub_id,
        name=hub_id,
        status=DownloadStatus.WAITING.value,
        total_bytes=0,
        done_bytes=0,
        error=None,
        created_at=time_,
        updated_at=time_,
        auto_load=False,
    )
