"""An embedded SQLite database on threads of its own, which goes forward from version to version."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

BUSY_S = 5.0
PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON", "foreign_keys = ON")
"""A kill loses nothing, a power cut at most the last moments; what is deleted is overwritten."""
DURABLE = ("synchronous = FULL", "fullfsync = ON")
"""A power cut loses nothing either; the second is for Macs, and means nothing elsewhere."""

Migration = Sequence[str]
"""The statements that lead from one version to the next."""

T = TypeVar("T")


class StoreError(Exception):
    """Raised when a database can't be opened; the message is one line for the person who started the server."""


class NewerVersionError(Exception):
    """Raised when a database is of a version that nobody here knows."""


class Database:
    """A database in a file that only its user can read, or in memory where `path` is None.

    One thread writes and another reads, each in the order of the calls: who reads does not wait for the disk, and finds
    what was written before it asked. Survives a kill; several servers may share one file.
    `what` is what people call it. Its version is the number of `migrations`. A `durable` one has on the disk what was
    written; else it may be on its way there. Raises StoreError.
    """

    def __init__(self, path: Path | None, what: str, migrations: Sequence[Migration], *, durable: bool = False) -> None:
        try:
            self._writer = connect(path, migrations, (*PRAGMAS, *DURABLE) if durable else PRAGMAS)
            self._reader = self._writer if path is None else opened(path)
        except NewerVersionError:
            raise StoreError(f"the {what} {path} was made by a newer version of this server") from None
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the {what} {path} can't be opened: {error}") from None
        if path is not None:
            self._reader.execute("PRAGMA query_only = ON")
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix=what)
        self._reading = self._writing if path is None else ThreadPoolExecutor(1, f"{what}, reading")

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` finds, which must not be a cursor. Raises sqlite3.Error."""
        return await self._done_on(self._reading, work, self._reader)

    async def change(self, statement: str, given: Sequence[Any] | Mapping[str, Any]) -> int:
        """Execute one statement; returns how many rows it changed. Raises sqlite3.Error."""
        return await self.write(lambda connection: connection.execute(statement, given).rowcount)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` as a whole, or nothing of it. Raises sqlite3.Error.

        Once begun it goes on, whether or not the caller waits for it.
        """
        return await self._done_on(self._writing, lambda connection: in_transaction(connection, work), self._writer)

    def close(self) -> None:
        """Finish what was asked for, and close the file. Idempotent."""
        for thread, connection in ((self._writing, self._writer), (self._reading, self._reader)):
            thread.shutdown()
            connection.close()

    async def _done_on(
        self, thread: Executor, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection
    ) -> T:
        found = await asyncio.get_running_loop().run_in_executor(thread, work, connection)
        # It would be taken apart on the caller's thread, while the statement that it shares runs there.
        assert not isinstance(found, sqlite3.Cursor)
        return found


def connect(path: Path | None, migrations: Sequence[Migration], pragmas: Sequence[str] = PRAGMAS) -> sqlite3.Connection:
    """An open database of the newest version, for one thread at a time.

    Raises OSError, sqlite3.Error or NewerVersionError.
    """
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not while it has a connection: closing any descriptor of the file would give up that one's locks.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = opened(path or ":memory:")
    try:
        if version_of(connection) > len(migrations):
            raise NewerVersionError
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        if version_of(connection) < len(migrations):
            in_transaction(connection, lambda connection: go_forward(connection, migrations))
    except BaseException:
        connection.close()
        raise
    return connection


def opened(path: Path | str) -> sqlite3.Connection:
    """A connection for one thread at a time. Raises sqlite3.Error."""
    # Transactions begin and end where `in_transaction` says so, and nowhere else.
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def go_forward(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the database to the version that `migrations` lead to. Raises sqlite3.Error or NewerVersionError."""
    # Another server may have done it, and more, while this one waited for its turn.
    version = version_of(connection)
    if version > len(migrations):
        raise NewerVersionError
    for statements in migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")


def version_of(connection: sqlite3.Connection) -> int:
    """0 for a new file."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do `work` with the file locked for writers from the start: what it reads stays true until it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
