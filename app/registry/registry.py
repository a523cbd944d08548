"""The registry: an embedded database of models, settings and downloads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mlx_server.app.registry import tables
from mlx_server.app.registry.app_settings import Value, checked
from mlx_server.app.registry.rows import DownloadRow, ModelRow, check_model
from mlx_server.app.storage.database import Database

OWN = "mlx-server."
"""What the keys of the server's own settings begin with."""

FILE = "registry.sqlite3"
EVERYTHING = -1


def now_utc() -> datetime:
    """The time now."""
    return datetime.now(UTC)


class Registry:
    """Every call is done as a whole or not at all, after what returned before; several servers may share one file.
    What has returned survives a kill. `clock` gives times with a zone. Every method raises sqlite3.Error
    when the disk is full, or another server keeps the file locked for too long.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now_utc) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, path: Path | None, clock: Callable[[], datetime] = now_utc) -> Registry:
        """The registry in a file, made if need be, or in memory without one. Raises StoreError."""
        return cls(Database(path, "registry", tables.MIGRATIONS), clock)

    async def models(self, limit: int = EVERYTHING, offset: int = 0) -> list[ModelRow]:
        """Models in the order in which they came."""
        return await self._database.read(lambda connection: tables.all_models(connection, limit, offset))

    async def model(self, name: str) -> ModelRow | None:
        """The model of this name or alias."""
        return await self._database.read(lambda connection: tables.model_called(connection, name))

    async def save(self, row: ModelRow) -> ModelRow:
        """Keep a model, in the place of the one with its name; returns it as it is kept. Raises InvalidRequest."""
        [saved] = await self.save_all([row])
        return saved

    async def save_all(self, rows: Sequence[ModelRow]) -> list[ModelRow]:
        """The same for several, all of them or none. Raises InvalidRequest."""
        for row in rows:
            check_model(row)
        return await self._database.write(lambda connection: [self._save(connection, row) for row in rows])

    async def save_found(self, rows: Sequence[ModelRow], gone: Sequence[ModelRow] = ()) -> None:
        """Keep what files say of models, and forget those whose files are `gone`. A name that has become that of a
        model with other files in the meantime is left to it. Raises InvalidRequest.
        """
        for row in rows:
            check_model(row)

        def work(connection: sqlite3.Connection) -> None:
            for row in rows:
                connection.execute(tables.SAVE_FOUND, self._fresh(row))
            for row in gone:
                connection.execute("DELETE FROM models WHERE name = ? AND path IS ?", (row.name, row.path))

        await self._database.write(work)

    async def set_status(self, name: str, status: str, error_message: str | None = None) -> bool:
        """What became of a model, and why; tells whether there is one."""
        query = "UPDATE models SET status = ?, error_message = ?, updated_at = ? WHERE name = ?"
        given = (status, error_message, tables.written_time(self._clock()), name)
        return await self._database.change(query, given) > 0

    async def record_uses(self, uses: Mapping[str, tuple[int, datetime]]) -> None:
        """Add to models' counts, by their names, each with the time of the last use; unknown names are passed over."""
        query = (
            "UPDATE models SET use_count = use_count + :count, last_used_at = max(coalesce(last_used_at, ''), :at)"
            " WHERE name = :name"
        )
        given = [{"name": name, "count": count, "at": tables.written_time(at)} for name, (count, at) in uses.items()]
        await self._database.write(lambda connection: connection.executemany(query, given).rowcount)

    async def remove(self, name: str) -> bool:
        """Forget a model; tells whether there was one. Its files stay."""
        return await self._database.change("DELETE FROM models WHERE name = ?", (name,)) > 0

    async def settings(self) -> dict[str, Value]:
        """The settings that were set, by their keys."""
        query = f"SELECT key, value FROM settings WHERE key NOT LIKE '{OWN}%' ORDER BY key"  # noqa: S608 - a constant
        found = await self._database.read(lambda connection: connection.execute(query).fetchall())
        return {key: msgspec.json.decode(value) for key, value in found}

    async def set_setting(self, key: str, value: object) -> Value:
        """Set one of SETTINGS; returns the value as it is kept. Raises SettingNotFound or InvalidRequest."""
        saved = checked(key, value)
        given = (key, msgspec.json.encode(saved).decode())
        await self._database.change("INSERT OR REPLACE INTO settings VALUES (?, ?)", given)
        return saved

    async def read_value(self, key: str) -> str | None:
        """What the server itself keeps under a key."""
        query, given = "SELECT value FROM settings WHERE key = ?", (OWN + key,)
        found = await self._database.read(lambda connection: connection.execute(query, given).fetchone())
        return None if found is None else msgspec.json.decode(found[0], type=str)

    async def write_value(self, key: str, value: str) -> None:
        """Keep something under a key that is no setting of clients."""
        given = (OWN + key, msgspec.json.encode(value).decode())
        await self._database.change("INSERT OR REPLACE INTO settings VALUES (?, ?)", given)

    async def downloads(self) -> list[DownloadRow]:
        """All downloads, the first one first."""
        query = tables.SELECT_DOWNLOADS
        found = await self._database.read(lambda connection: connection.execute(query).fetchall())
        return [tables.read_download(row) for row in found]

    async def save_download(self, row: DownloadRow) -> None:
        """Keep a download, in the place of the one with its id."""
        await self._database.change(tables.SAVE_DOWNLOAD, tables.written_download(row))

    def close(self) -> None:
        """Finish what was asked for, and close the file. Idempotent."""
        self._database.close()

    def _fresh(self, row: ModelRow) -> dict[str, Any]:
        now = self._clock()
        return tables.written_model(
            msgspec.structs.replace(row, use_count=0, last_used_at=None, created_at=now, updated_at=now)
        )

    def _save(self, connection: sqlite3.Connection, row: ModelRow) -> ModelRow:
        tables.check_free(connection, row)
        connection.execute(tables.SAVE_MODEL, self._fresh(row))
        saved = tables.model_called(connection, row.name)
        assert saved is not None
        return saved
