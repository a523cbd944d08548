"""What `/v1/responses` keeps: an embedded SQLite database with a limit on its size and on the age of what it holds.

It knows records and the ids of items, not what is in them. Everything happens on one thread of its own, in the order of
the calls.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_server.app.responses.conversation_store import ConversationStore
from mlx_server.app.storage.database import Database
from mlx_server.app.storage.store_limits import StoreLimits

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
    (
        """
        CREATE TABLE response_items (
            id TEXT NOT NULL,
            response TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
            PRIMARY KEY (id, response)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX response_items_response ON response_items (response)",
        """
        INSERT OR IGNORE INTO response_items
        SELECT json_extract(value, '$.id'), r.id FROM responses AS r, json_each(CAST(r.items AS TEXT))
        """,
        """
        INSERT OR IGNORE INTO response_items
        SELECT json_extract(value, '$.id'), r.id FROM responses AS r, json_each(CAST(r.response AS TEXT), '$.output')
        """,
        """
        CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            created INTEGER NOT NULL,
            used REAL NOT NULL,
            metadata BLOB NOT NULL
        )
        """,
        "CREATE INDEX conversations_used ON conversations (used)",
        """
        CREATE TABLE conversation_items (
            conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            id TEXT NOT NULL,
            item BLOB NOT NULL,
            PRIMARY KEY (conversation, position),
            UNIQUE (id, conversation)
        )
        """,
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

    `owner` is whose it is; `previous` the id of the response that it follows; `item_ids` those of all its items.
    """

    id: str
    owner: str
    previous: str | None
    response: bytes
    items: bytes
    events: bytes = b""
    item_ids: tuple[str, ...] = ()


class ResponseStore:
    """A database in a file, or in memory where `path` is None. Survives a kill; two servers may share one file.

    When it grows beyond `max_bytes`, what was used least recently goes; what was not used for `max_age_s` is gone.
    Being continued counts as use, for the whole conversation. `clock` gives seconds since the epoch. Raises StoreError.
    """

    def __init__(
        self, path: Path | None, *, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._limits = StoreLimits(max_bytes, max_age_s, clock)
        self._database = Database(path, "response store", MIGRATIONS)
        self.conversations = ConversationStore(self._database, self._limits)
        """Conversations, within the same limits."""

    async def put(self, record: Record) -> None:
        """Keep a response, in the place of one with the same id. It is on its way to the disk when this returns."""
        await self._database.write(lambda connection: self._put(connection, record))

    async def replace(self, record: Record) -> bool:
        """Keep a response in the place of the one with the same id; False where that was deleted meanwhile."""
        return await self._database.write(lambda connection: self._replace(connection, record))

    async def get(self, id_: str, owner: str) -> Record | None:
        """The response of that id, if it is this owner's."""
        query = f"{CHAIN} {COLUMNS}, events {CHAINED} WHERE depth = 0"
        found = await self._database.read(lambda connection: self._select(connection, query, id_, owner))
        return found[0] if found else None

    async def chain(self, id_: str, owner: str, max_bytes: int) -> list[Record]:
        """The response and all that it follows, the first one first, without their events. Raises ChainTooLongError.

        A conversation whose beginning is gone begins with a record that has a `previous`.
        """
        return await self._database.write(lambda connection: self._chain(connection, id_, owner, max_bytes))

    async def holding(self, ids: Sequence[str], owner: str, max_bytes: int) -> list[Record]:
        """Of all responses that have one of these items the newest for each, without their events. Raises
        ChainTooLongError."""
        return await self._database.read(lambda connection: self._holding(connection, ids, owner, max_bytes))

    async def delete(self, id_: str, owner: str) -> bool:
        """Forget a response; tells whether there was one."""
        return await self._database.write(lambda connection: self._delete(connection, id_, owner))

    def close(self) -> None:
        """Finish what was asked for, and close the file."""
        self._database.close()

    def _put(self, connection: sqlite3.Connection, record: Record) -> None:
        now = self._limits.clock()
        values = (record.id, record.owner, record.previous, now, record.response, record.items, record.events)
        connection.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self._put_items(connection, record)

    def _replace(self, connection: sqlite3.Connection, record: Record) -> bool:
        given = {**asdict(record), "now": self._limits.clock()}
        found = connection.execute(REPLACE, given).rowcount > 0
        if found:
            connection.execute("DELETE FROM response_items WHERE response = ?", (record.id,))
            self._put_items(connection, record)
        return found

    def _put_items(self, connection: sqlite3.Connection, record: Record) -> None:
        ids = [(item, record.id) for item in record.item_ids]
        connection.executemany("INSERT OR IGNORE INTO response_items VALUES (?, ?)", ids)
        self._limits.evict(connection)

    def _select(self, connection: sqlite3.Connection, query: str, id_: str, owner: str) -> list[Record]:
        given = {"id": id_, "owner": owner, "oldest": self._limits.oldest}
        return [Record(*row) for row in connection.execute(query, given)]

    def _chain(self, connection: sqlite3.Connection, id_: str, owner: str, max_bytes: int) -> list[Record]:
        given = {"id": id_, "owner": owner, "oldest": self._limits.oldest, "now": self._limits.clock()}
        [size] = connection.execute(f"{CHAIN} {SIZE}", given).fetchone()
        if (size or 0) > max_bytes:
            raise ChainTooLongError
        connection.execute(f"{CHAIN} {USE}", given)
        return self._select(connection, f"{CHAIN} {COLUMNS} {CHAINED} ORDER BY depth DESC", id_, owner)

    def _delete(self, connection: sqlite3.Connection, id_: str, owner: str) -> bool:
        query = "DELETE FROM responses WHERE id = ? AND owner = ? AND used >= ?"
        return connection.execute(query, (id_, owner, self._limits.oldest)).rowcount > 0

    def _holding(self, connection: sqlite3.Connection, ids: Sequence[str], owner: str, max_bytes: int) -> list[Record]:
        given = {"ids": json.dumps(ids), "owner": owner, "oldest": self._limits.oldest}
        found = connection.execute(f"SELECT sum(length(response) + length(items)) {WITH_ITEMS}", given).fetchone()
        if (found[0] or 0) > max_bytes:
            raise ChainTooLongError
        rows = connection.execute(f"SELECT id, owner, previous, response, items {WITH_ITEMS}", given)
        return [Record(*row) for row in rows]


COLUMNS = "SELECT id, owner, r.previous, response, items"
CHAINED = "FROM chain JOIN responses AS r USING (id)"
SIZE = "SELECT sum(length(response) + length(items)) FROM chain JOIN responses USING (id)"
REPLACE = """
UPDATE responses SET previous = :previous, used = :now, response = :response, items = :items, events = :events
WHERE id = :id AND owner = :owner
"""
USE = "UPDATE responses SET used = :now WHERE id IN (SELECT id FROM chain)"
WITH_ITEMS = """
FROM responses WHERE rowid IN (
    SELECT max(r.rowid) FROM response_items AS i JOIN responses AS r ON r.id = i.response
    WHERE i.id IN (SELECT value FROM json_each(:ids)) AND r.owner = :owner AND r.used >= :oldest
    GROUP BY i.id
)
"""
