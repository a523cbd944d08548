"""What `/v1/responses` keeps: an embedded SQLite database with a limit on its size and on the age of what it holds.

It knows records, not what is in them. Everything happens on one thread of its own, in the order of the calls.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlx_server.app.database import Database

MIGRATIONS = (
    (
        """
        CREATE TABLE IF NOT EXISTS responses (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            previous TEXT,
            used REAL NOT NULL,
            response BLOB NOT NULL,
            items BLOB NOT NULL,
            events BLOB NOT NULL
        )
        """,
        "CREATE INDEX IF NOT EXISTS responses_used ON responses (used)",
    ),
)

# A response and all that it follows, down to the first one or to one that is gone.
CHAIN = """
WITH RECURSIVE chain (id, previous, depth) AS (
    SELECT id, previous, 0 FROM responses WHERE id = :id AND owner = :owner AND used >= :oldest
    UNION ALL
    SELECT r.id, r.previous, depth + 1 FROM responses AS r JOIN chain ON r.id = chain.previous
    WHERE r.owner = :owner AND r.used >= :oldest
)
"""


class ChainTooLongError(Exception):
    """Raised when a conversation is larger than was asked for."""


@dataclass(frozen=True)
class Record:
    """A response, the items of its input and the events of its stream, as JSON and as server-sent events.

    `owner` is whose it is; `previous` the id of the response that it follows.
    """

    id: str
    owner: str
    previous: str | None
    response: bytes
    items: bytes
    events: bytes = b""


class ResponseStore:
    """A database in a file, or in memory where `path` is None. Survives a kill; two servers may share one file.

    When it grows beyond `max_bytes`, what was used least recently goes; what was not used for `max_age_s` is gone.
    Being continued counts as use, for the whole conversation. `clock` gives seconds since the epoch. Raises StoreError.
    """

    def __init__(
        self, path: Path | None, *, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._database = Database(path, "response store", MIGRATIONS)

    async def put(self, record: Record) -> None:
        """Keep a response, in the place of one with the same id. It is on its way to the disk when this returns."""
        await self._database.write(lambda connection: self._put(connection, record))

    async def get(self, id_: str, owner: str) -> Record | None:
        """The response of that id, if it is this owner's."""
        query = f"{CHAIN} {COLUMNS} WHERE depth = 0"
        found = await self._database.read(lambda connection: self._select(connection, query, id_, owner))
        return found[0] if found else None

    async def chain(self, id_: str, owner: str, max_bytes: int) -> list[Record]:
        """The response and all that it follows, the first one first. Raises ChainTooLongError.

        A conversation whose beginning is gone begins with a record that has a `previous`.
        """
        return await self._database.write(lambda connection: self._chain(connection, id_, owner, max_bytes))

    async def delete(self, id_: str, owner: str) -> bool:
        """Forget a response; tells whether there was one."""
        return await self._database.write(lambda connection: self._delete(connection, id_, owner))

    def close(self) -> None:
        """Finish what was asked for, and close the file."""
        self._database.close()

    # --- on the database's thread ---

    @property
    def _oldest(self) -> float:
        return self._clock() - self._max_age_s

    def _put(self, connection: sqlite3.Connection, record: Record) -> None:
        values = (record.id, record.owner, record.previous, self._clock(), record.response, record.items, record.events)
        connection.execute("DELETE FROM responses WHERE used < ?", (self._oldest,))
        connection.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        while bytes_used(connection) > self._max_bytes and connection.execute(OLDEST).rowcount:
            pass

    def _select(self, connection: sqlite3.Connection, query: str, id_: str, owner: str) -> list[Record]:
        given = {"id": id_, "owner": owner, "oldest": self._oldest}
        return [Record(*row) for row in connection.execute(query, given)]

    def _chain(self, connection: sqlite3.Connection, id_: str, owner: str, max_bytes: int) -> list[Record]:
        given = {"id": id_, "owner": owner, "oldest": self._oldest, "now": self._clock()}
        [size] = connection.execute(f"{CHAIN} {SIZE}", given).fetchone()
        if (size or 0) > max_bytes:
            raise ChainTooLongError
        connection.execute(f"{CHAIN} {USE}", given)
        return self._select(connection, f"{CHAIN} {COLUMNS} ORDER BY depth DESC", id_, owner)

    def _delete(self, connection: sqlite3.Connection, id_: str, owner: str) -> bool:
        query = "DELETE FROM responses WHERE id = ? AND owner = ? AND used >= ?"
        return connection.execute(query, (id_, owner, self._oldest)).rowcount > 0


def bytes_used(connection: sqlite3.Connection) -> int:
    """What the rows take, in pages."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


COLUMNS = "SELECT id, owner, r.previous, response, items, events FROM chain JOIN responses AS r USING (id)"
SIZE = "SELECT sum(length(response) + length(items)) FROM chain JOIN responses USING (id)"
USE = "UPDATE responses SET used = :now WHERE id IN (SELECT id FROM chain)"
OLDEST = "DELETE FROM responses WHERE id = (SELECT id FROM responses ORDER BY used LIMIT 1)"
