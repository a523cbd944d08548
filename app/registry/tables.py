"""The registry's tables, from version to version, and rows in and out of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlx_server.app.registry.rows import DownloadRow, ModelRow
from mlx_server.schemas.internal.errors import InvalidRequest

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
    (
        "ALTER TABLE models ADD COLUMN aliases TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE models ADD COLUMN stamp TEXT",
        "CREATE INDEX models_with_aliases ON models (aliases) WHERE aliases <> '[]'",
        "CREATE INDEX models_by_path ON models (path)",
    ),
    ("ALTER TABLE downloads ADD COLUMN owner TEXT",),
)
MODEL_COLUMNS = ModelRow.__struct_fields__
DOWNLOAD_COLUMNS = DownloadRow.__struct_fields__
PRESERVED = {"id", "name", "use_count", "last_used_at", "created_at"}
"""Columns of a model that saving it again leaves alone."""
FOUND = PRESERVED | {"memory_bytes", "status", "error_message", "aliases"}
"""Those that finding it again leaves alone."""
JSON = ("metadata", "aliases")


def listed(columns: Iterable[str], form: str = "{}") -> str:
    """Names of columns, each in its form, for a statement."""
    return ", ".join(form.format(name) for name in columns)


def saving(table: str, columns: Sequence[str]) -> str:
    """The beginning of a statement that puts named values into a table."""
    return f"INTO {table} ({listed(columns)}) VALUES ({listed(columns, ':{}')})"


# As one text of JSON: making ten thousand rows from a value for each column takes twice as long.
VALUES = listed(f"json({name})" if name in JSON else name for name in MODEL_COLUMNS)
SELECT_MODELS = (
    f"SELECT json_group_array(json_array({VALUES}))"  # noqa: S608
    " FROM (SELECT * FROM models {} ORDER BY id LIMIT ? OFFSET ?)"
)
PUT_MODEL = f"INSERT {saving('models', MODEL_COLUMNS[1:])} ON CONFLICT (name) DO UPDATE SET"
SAVE_MODEL = f"{PUT_MODEL} {listed([name for name in MODEL_COLUMNS if name not in PRESERVED], '{0} = excluded.{0}')}"
SAVE_FOUND = (
    f"{PUT_MODEL} {listed([name for name in MODEL_COLUMNS if name not in FOUND], '{0} = excluded.{0}')}"
    " WHERE models.path IS excluded.path OR models.hub_id = excluded.hub_id"
)
ALIASED = "WHERE aliases <> '[]' AND EXISTS (SELECT 1 FROM json_each(aliases) WHERE value = ?)"
TAKEN = """
SELECT value, models.name FROM json_each(:wanted) JOIN models ON models.name = value WHERE models.name <> :name
UNION ALL
SELECT alias.value, models.name FROM models, json_each(models.aliases) AS alias
WHERE aliases <> '[]' AND models.name <> :name AND alias.value IN (SELECT value FROM json_each(:wanted))
"""
SELECT_DOWNLOADS = f"SELECT {listed(DOWNLOAD_COLUMNS)} FROM downloads ORDER BY created_at, id"  # noqa: S608
SAVE_DOWNLOAD = f"INSERT OR REPLACE {saving('downloads', DOWNLOAD_COLUMNS)}"

read_models = msgspec.json.Decoder(list[ModelRow]).decode


def all_models(connection: sqlite3.Connection, limit: int, offset: int) -> list[ModelRow]:
    """The models as they came; all of them where `limit` is negative."""
    [found] = connection.execute(SELECT_MODELS.format(""), (limit, offset)).fetchone()
    return read_models(found)


def model_called(connection: sqlite3.Connection, name: str) -> ModelRow | None:
    """The model of this name, or else of this alias."""
    for where in ("WHERE name = ?", ALIASED):
        [found] = connection.execute(SELECT_MODELS.format(where), (name, 1, 0)).fetchone()
        if models := read_models(found):
            return models[0]
    return None


def check_free(connection: sqlite3.Connection, row: ModelRow) -> None:
    """Refuse a model whose name or alias is another one's. Raises InvalidRequest."""
    wanted = msgspec.json.encode([row.name, *row.aliases]).decode()
    taken = connection.execute(TAKEN, {"wanted": wanted, "name": row.name}).fetchone()
    if taken is not None:
        field = "name" if taken[0] == row.name else "aliases"
        message = f"`{field}`: {taken[0]!r} is already a name of the model {taken[1]!r}; choose another."
        raise InvalidRequest(message, field)


def written_model(row: ModelRow) -> dict[str, Any]:
    """The same as values of the columns."""
    return {
        **msgspec.structs.asdict(row),
        "type": row.type.value,
        "last_used_at": written_time(row.last_used_at) if row.last_used_at else None,
        "created_at": written_time(row.created_at),
        "updated_at": written_time(row.updated_at),
        **{name: msgspec.json.encode(getattr(row, name)).decode() for name in JSON},
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
