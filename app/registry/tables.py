"""The registry's tables, from version to version, and rows in and out of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlx_server.app.registry.rows import DownloadRow, ModelRow

MIGRATIONS = (
    (
        """
        CREATE TABLE models (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            path TEXT,
            hub_id TEXT,
            type TEXT NOT NULL,
            version TEXT,
            quantisation TEXT,
            weight_bytes INTEGER NOT NULL,
            memory_bytes INTEGER,
            parameters INTEGER,
            context_length INTEGER,
            architecture TEXT,
            status TEXT NOT NULL,
            use_count INTEGER NOT NULL,
            last_used_at TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            error_message TEXT,
            metadata TEXT NOT NULL
        )
        """,
        "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """
        CREATE TABLE downloads (
            id TEXT PRIMARY KEY,
            hub_id TEXT NOT NULL,
            name TEXT NOT NULL,
            status TEXT NOT NULL,
            total_bytes INTEGER NOT NULL,
            done_bytes INTEGER NOT NULL,
            error TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            auto_load INTEGER NOT NULL
        )
        """,
    ),
)
MODEL_COLUMNS = ModelRow.__struct_fields__
DOWNLOAD_COLUMNS = DownloadRow.__struct_fields__
KEPT = {"id", "name", "use_count", "last_used_at", "created_at"}
"""Columns of a model that saving it again leaves alone."""


def listed(columns: Iterable[str], form: str = "{}") -> str:
    """Names of columns, each in its form, for a statement."""
    return ", ".join(form.format(name) for name in columns)


def saving(table: str, columns: Sequence[str]) -> str:
    """The beginning of a statement that puts named values into a table."""
    return f"INTO {table} ({listed(columns)}) VALUES ({listed(columns, ':{}')})"


# As one text of JSON: making ten thousand rows from a value for each column takes twice as long.
SELECT_MODELS = (
    f"SELECT json_group_array(json_array({listed(MODEL_COLUMNS).replace('metadata', 'json(metadata)')}))"  # noqa: S608
    " FROM (SELECT * FROM models {} ORDER BY id LIMIT ? OFFSET ?)"
)
SAVE_MODEL = (
    f"INSERT {saving('models', MODEL_COLUMNS[1:])} ON CONFLICT (name) DO UPDATE SET"
    f" {listed([name for name in MODEL_COLUMNS if name not in KEPT], '{0} = excluded.{0}')}"
)
SELECT_DOWNLOADS = f"SELECT {listed(DOWNLOAD_COLUMNS)} FROM downloads ORDER BY created_at, id"  # noqa: S608
SAVE_DOWNLOAD = f"INSERT OR REPLACE {saving('downloads', DOWNLOAD_COLUMNS)}"

read_models = msgspec.json.Decoder(list[ModelRow]).decode


def all_models(connection: sqlite3.Connection, limit: int, offset: int) -> list[ModelRow]:
    """The models as they came; all of them where `limit` is negative."""
    [found] = connection.execute(SELECT_MODELS.format(""), (limit, offset)).fetchone()
    return read_models(found)


def model_called(connection: sqlite3.Connection, name: str) -> ModelRow | None:
    """The model of this name."""
    [found] = connection.execute(SELECT_MODELS.format("WHERE name = ?"), (name, 1, 0)).fetchone()
    return next(iter(read_models(found)), None)


def written_model(row: ModelRow) -> dict[str, Any]:
    """The same as values of the columns."""
    return {
        **msgspec.structs.asdict(row),
        "type": row.type.value,
        "last_used_at": written_time(row.last_used_at) if row.last_used_at else None,
        "created_at": written_time(row.created_at),
        "updated_at": written_time(row.updated_at),
        "metadata": msgspec.json.encode(row.metadata).decode(),
    }


def read_download(row: tuple[Any, ...]) -> DownloadRow:
    """A row of `downloads`, its columns in the order of DOWNLOAD_COLUMNS."""
    found = dict(zip(DOWNLOAD_COLUMNS, row, strict=True))
    times = {name: read_time(found[name]) for name in ("created_at", "updated_at")}
    return DownloadRow(**{**found, **times, "auto_load": bool(found["auto_load"])})


def written_download(row: DownloadRow) -> dict[str, Any]:
    """The same as values of the columns."""
    times = {"created_at": written_time(row.created_at), "updated_at": written_time(row.updated_at)}
    return {**msgspec.structs.asdict(row), **times}


def written_time(time: datetime) -> str:
    """A time so that later ones sort behind earlier ones."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


read_time = datetime.fromisoformat
