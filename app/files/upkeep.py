"""What has come to its end goes, and so does what a kill left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from mlx_server.app.files.file_store import FileStore
from mlx_server.app.files.upload_store import UploadStore
from mlx_server.app.storage.database import Database

log = logging.getLogger(__name__)

EVERY_S = 30.0
STRAY_S = 86_400.0
"""After so long what no row knows is nobody's: nothing takes longer to come. It is looked for as often."""

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
        found = await to_thread.run_sync(older_files, self._files.folder, time.time() - STRAY_S)
        # Their rows after them, and after those that are being written: a file comes before its row.
        known = await self._database.write(lambda connection: {id_ for (id_,) in connection.execute(KNOWN)})
        await to_thread.run_sync(delete_all, [path for path in found if path.name not in known])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        strays_at = loop.time()
        while True:
            if loop.time() >= strays_at:
                strays_at = loop.time() + STRAY_S
                try:
                    await self.drop_strays()
                except (sqlite3.Error, OSError) as error:
                    log.warning("what was left of files can't be deleted: %s", error)
            try:
                await self.sweep()
            except (sqlite3.Error, OSError) as error:
                log.warning("files that have come to their end can't be deleted: %s", error)
            await asyncio.sleep(EVERY_S)


def older_files(folder: Path, before: float) -> list[Path]:
    """Files below a folder, also while others come and go there, that were last written before a time."""
    found: list[Path] = []
    for where, _, names in os.walk(folder):
        for path in (Path(where, name) for name in names):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    found.append(path)
    return found


def delete_all(files: Iterable[Path]) -> None:
    """Delete files, as far as they are there. Raises OSError."""
    for path in files:
        path.unlink(missing_ok=True)
