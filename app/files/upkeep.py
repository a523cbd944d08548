"""What has come to its end goes, and so does what a kill left behind."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from pathlib import Path

from anyio import to_thread

from mlx_server.app.files.file_store import FileStore
from mlx_server.app.files.upload_store import UploadStore
from mlx_server.app.storage.database import Database

log = logging.getLogger(__name__)

EVERY_S = 30.0
STRAY_S = 86_400.0
"""After so long what no row knows is nobody's: nothing takes longer to come."""

KNOWN = "SELECT id FROM files UNION ALL SELECT id FROM upload_parts"


class Upkeep:
    """Sweeps files and uploads from `start` to `close`."""

    def __init__(self, database: Database, files: FileStore, uploads: UploadStore) -> None:
        self._database = database
        self._files = files
        self._uploads = uploads
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; what fails is logged, and tried again."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def sweep(self) -> None:
        """Forget what has come to its end. Raises sqlite3.Error or OSError."""
        await self._files.drop_expired()
        await self._uploads.drop_expired()

    async def drop_strays(self) -> None:
        """Delete what lies there without a row, and has for long. Raises sqlite3.Error or OSError."""
        known = await self._database.read(lambda connection: {id_ for (id_,) in connection.execute(KNOWN)})
        await to_thread.run_sync(delete_strays, self._files.folder, known, time.time() - STRAY_S)

    async def _run(self) -> None:
        try:
            await self.drop_strays()
        except (sqlite3.Error, OSError) as error:
            log.warning("what earlier servers left of files can't be deleted: %s", error)
        while True:
            try:
                await self.sweep()
            except (sqlite3.Error, OSError) as error:
                log.warning("files that have come to their end can't be deleted: %s", error)
            await asyncio.sleep(EVERY_S)


def delete_strays(folder: Path, known: set[str], before: float) -> None:
    """Delete files below a folder that nobody knows and that are older. Raises OSError."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in known and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
