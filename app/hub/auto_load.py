"""Models that are loaded as soon as they are downloaded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from mlx_server.app.catalog.errors import FleetError
from mlx_server.app.hub.download import Download, DownloadStatus
from mlx_server.app.tasks import Tasks

log = logging.getLogger(__name__)


class AutoLoad:
    """Loads models by their names, each in a task of its own; a load that fails is logged, and its model tells why."""

    def __init__(self, load: Callable[[str], Awaitable[object]]) -> None:
        self._load = load
        self._tasks = Tasks("a load")

    def changed(self, download: Download) -> None:
        """A download has changed: the watcher of `Downloads`."""
        if download.status is DownloadStatus.COMPLETED and download.row.auto_load:
            self._tasks.spawn(self._load_it(download.row.name))

    async def close(self) -> None:
        """Wait for no load any more."""
        await self._tasks.cancel()

    async def _load_it(self, name: str) -> None:
        try:
            await self._load(name)
        except FleetError as error:
            log.warning("%s was downloaded and can't be loaded: %s", name, error)
