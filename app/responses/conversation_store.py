"""Conversations as `/v1/conversations` keeps them: items in their order, in the database of the responses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_server.app.storage.database import Database
from mlx_server.app.storage.store_limits import StoreLimits

StoredItem = tuple[str, bytes]
"""An item's id, and the item as JSON."""


class ConversationTooLargeError(Exception):
    """Raised when a conversation is larger than was asked for."""


@dataclass(frozen=True)
class StoredConversation:
    """A conversation without its items: when it was made, in seconds since the epoch, and its metadata as JSON."""

    id: str
    created: int
    metadata: bytes


class ConversationStore:
    """Conversations of every owner, who sees his own alone. An item whose id a conversation has already is not added.

    Raises sqlite3.Error.
    """

    def __init__(self, database: Database, limits: StoreLimits) -> None:
        self._database = database
        self._limits = limits

    async def create(self, made: StoredConversation, owner: str, items: Sequence[StoredItem]) -> None:
        """Keep a new one."""

        def work(connection: sqlite3.Connection) -> None:
            values = (made.id, owner, made.created, self._limits.clock(), made.metadata)
            connection.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?)", values)
            self._append(connection, made.id, items)

        await self._database.write(work)

    async def get(self, id_: str, owner: str) -> StoredConversation | None:
        """The conversation of that id."""

        def work(connection: sqlite3.Connection) -> StoredConversation | None:
            row = connection.execute(f"{SELECT_CONVERSATION} {IT}", self._named(id_, owner)).fetchone()
            return StoredConversation(*row) if row else None

        return await self._database.read(work)

    async def update(self, id_: str, owner: str, metadata: bytes) -> bool:
        """Give it other metadata; tells whether it is there."""
        given = {**self._named(id_, owner), "metadata": metadata}
        changed = await self._database.change(f"{CHANGE} {IT}", given)
        return changed > 0

    async def delete(self, id_: str, owner: str) -> bool:
        """Forget it and its items; tells whether it was there."""
        return await self._database.change(f"{FORGET} {IT}", self._named(id_, owner)) > 0

    async def add(self, id_: str, owner: str, items: Sequence[StoredItem]) -> bool:
        """Put items at its end; tells whether it is there."""

        def work(connection: sqlite3.Connection) -> bool:
            found = self._use(connection, id_, owner)
            if found:
                self._append(connection, id_, items)
            return found

        return await self._database.write(work)

    async def items(self, id_: str, owner: str, max_bytes: int) -> list[bytes] | None:
        """All its items, to go on from; None if it is not there. Raises ConversationTooLargeError."""

        def work(connection: sqlite3.Connection) -> list[bytes] | None:
            if not self._use(connection, id_, owner):
                return None
            [size] = connection.execute(SIZE, (id_,)).fetchone()
            if (size or 0) > max_bytes:
                raise ConversationTooLargeError
            return pieces(connection, "WHERE conversation = :id ORDER BY position", {"id": id_})

        return await self._database.write(work)

    async def page(self, id_: str, owner: str, *, after: str | None, limit: int, ascending: bool) -> list[bytes] | None:
        """At most `limit` of its items, those that come after one of them in this order; None if that is not there."""
        beyond, order = (">", "ASC") if ascending else ("<", "DESC")

        def work(connection: sqlite3.Connection) -> list[bytes] | None:
            given = {**self._named(id_, owner), "item": after, "limit": limit}
            position = connection.execute(f"{POSITION} {WITHIN} AND id = :item", given).fetchone()
            if after is not None and position is None:
                return None
            bound = f"AND position {beyond} {position[0]}" if position else ""
            return pieces(connection, f"{WITHIN} {bound} ORDER BY position {order} LIMIT :limit", given)

        return await self._database.read(work)

    async def item(self, id_: str, owner: str, item: str) -> bytes | None:
        """One of its items."""
        given = {**self._named(id_, owner), "item": item}
        found = await self._database.read(lambda connection: pieces(connection, f"{WITHIN} AND id = :item", given))
        return found[0] if found else None

    async def remove(self, id_: str, owner: str, item: str) -> bool:
        """Take an item out; tells whether it was there."""
        given = {**self._named(id_, owner), "item": item}
        return await self._database.change(f"{TAKE_OUT} {WITHIN} AND id = :item", given) > 0

    async def holding(self, ids: Sequence[str], owner: str) -> list[bytes]:
        """The items of these ids that any of the owner's conversations has."""
        given = {"ids": json.dumps(ids), "owner": owner, "oldest": self._limits.oldest}
        return await self._database.read(lambda connection: pieces(connection, WITH_IDS, given))

    def _named(self, id_: str, owner: str) -> dict[str, object]:
        return {"id": id_, "owner": owner, "oldest": self._limits.oldest, "now": self._limits.clock()}

    def _use(self, connection: sqlite3.Connection, id_: str, owner: str) -> bool:
        return connection.execute(f"{USE} {IT}", self._named(id_, owner)).rowcount > 0

    def _append(self, connection: sqlite3.Connection, id_: str, items: Sequence[StoredItem]) -> None:
        connection.executemany(APPEND, [(id_, item, content, id_) for item, content in items])
        self._limits.evict(connection)


def pieces(connection: sqlite3.Connection, where: str, given: Mapping[str, object]) -> list[bytes]:
    """Items as JSON."""
    return [item for (item,) in connection.execute(f"{ITEM} {where}", given)]


IT = "WHERE id = :id AND owner = :owner AND used >= :oldest"
WITHIN = f"WHERE conversation = (SELECT id FROM conversations {IT})"  # noqa: S608 - a constant
SELECT_CONVERSATION = "SELECT id, created, metadata FROM conversations"
USE = "UPDATE conversations SET used = :now"
CHANGE = "UPDATE conversations SET used = :now, metadata = :metadata"
FORGET = "DELETE FROM conversations"
TAKE_OUT = "DELETE FROM conversation_items"
ITEM = "SELECT item FROM conversation_items"
POSITION = "SELECT position FROM conversation_items"
SIZE = "SELECT sum(length(item)) FROM conversation_items WHERE conversation = ?"
APPEND = """
INSERT OR IGNORE INTO conversation_items
SELECT ?, 1 + coalesce(max(position), 0), ?, ? FROM conversation_items WHERE conversation = ?
"""
WITH_IDS = """
WHERE id IN (SELECT value FROM json_each(:ids))
AND conversation IN (SELECT id FROM conversations WHERE owner = :owner AND used >= :oldest)
"""
