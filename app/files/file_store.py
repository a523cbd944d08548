"""Files of every owner, who sees his own alone."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from anyio import to_thread

from mlx_server.app.storage.database import Database
from mlx_server.app.storage.durable import link_file, sync_file
from mlx_server.schemas.internal.errors import InvalidRequest

MEGABYTE = 1 << 20
COLUMNS = "id, owner, purpose, name, size, created, expires"
MINE = "owner = :owner AND (expires IS NULL OR expires > :now)"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's row; `size` in bytes, times in seconds since the epoch, `expires` None for one that stays."""

    id: str
    owner: str
    purpose: str
    name: str
    size: int
    created: int
    expires: int | None


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that one owner may keep."""

    most_bytes: int
    most_files: int


class FileStore:
    """Rows in `database`, and in `folder` a file under the id of each: it comes before its row, and goes after it.

    `clock` gives seconds since the epoch. Raises sqlite3.Error and OSError.
    """

    def __init__(self, database: Database, folder: Path, quota: Quota, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        """Where files lie while they come."""
        self.quota = quota
        self.clock = clock
        self._database = database
        self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, id_: str) -> Path:
        """Where a file lies."""
        return self.folder / id_

    def new(self, owner: str, purpose: str, name: str, size: int, lifetime_s: int | None) -> StoredFile:
        """A file that begins to be now."""
        now = int(self.clock())
        expires = None if lifetime_s is None else now + lifetime_s
        return StoredFile(f"file-{uuid.uuid4().hex}", owner, purpose, name, size, now, expires)

    async def keep(self, file: StoredFile, source: Path) -> None:
        """Keep what lies at `source`, on the same disk, which the caller deletes; it is on the disk when this returns.

        Raises InvalidRequest where the quota is used up.
        """
        await to_thread.run_sync(sync_file, source)

        def work(connection: sqlite3.Connection) -> None:
            self.check_quota(connection, file.owner, file.size)
            self.insert(connection, file, source)

        try:
            await self._database.write(work)
        except (InvalidRequest, sqlite3.Error, OSError):
            # Not where nobody waits any more: then it is kept.
            self.path(file.id).unlink(missing_ok=True)
            raise

    def insert(self, connection: sqlite3.Connection, file: StoredFile, source: Path) -> None:
        """The same as a part of a transaction, whatever the quota says."""
        link_file(source, self.path(file.id))
        values = (file.id, file.owner, file.purpose, file.name, file.size, file.created, file.expires)
        connection.execute(f"INSERT INTO files ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608

    def check_quota(self, connection: sqlite3.Connection, owner: str, size: int) -> None:
        """Raise InvalidRequest if an owner may not keep one more file of `size` bytes."""
        files, used = connection.execute(USED, {"owner": owner, "now": self.clock()}).fetchone()
        if files >= self.quota.most_files:
            message = f"`file`: {files} files are kept already, and no more are allowed (--file-quota-count)."
        elif used + size > self.quota.most_bytes:
            allowed = self.quota.most_bytes // MEGABYTE
            message = f"`file`: {used // MEGABYTE} of {allowed} MB are used, and it does not fit (--file-quota-mb)."
        else:
            return
        raise InvalidRequest(f"{message} Delete some first.", "file", "file_quota_exceeded")

    async def get(self, id_: str, owner: str) -> StoredFile | None:
        """The file of that id."""
        given = {"id": id_, "owner": owner, "now": self.clock()}
        query = f"SELECT {COLUMNS} FROM files WHERE id = :id AND {MINE}"  # noqa: S608
        row = await self._database.read(lambda connection: connection.execute(query, given).fetchone())
        return StoredFile(*row) if row else None

    async def page(
        self, owner: str, *, purpose: str | None, after: str | None, limit: int, ascending: bool
    ) -> list[StoredFile] | None:
        """Files in the order in which they came, or the other way round; None if there is no file `after`."""
        query = PAGE.format(*((">", "ASC") if ascending else ("<", "DESC")))
        given = {"owner": owner, "now": self.clock(), "purpose": purpose, "after": after, "limit": limit}

        def work(connection: sqlite3.Connection) -> list[StoredFile] | None:
            at = connection.execute(f"SELECT number FROM files WHERE id = :after AND {MINE}", given).fetchone()  # noqa: S608
            if after is not None and at is None:
                return None
            rows = connection.execute(query, {**given, "at": at and at[0]})
            return [StoredFile(*row) for row in rows]

        return await self._database.read(work)

    async def delete(self, id_: str, owner: str) -> bool:
        """Forget a file; tells whether there was one."""
        given = {"id": id_, "owner": owner, "now": self.clock()}
        if not await self._database.change(f"DELETE FROM files WHERE id = :id AND {MINE}", given):  # noqa: S608
            return False
        self.path(id_).unlink(missing_ok=True)
        return True

    async def drop_expired(self) -> None:
        """Forget what has come to its end."""
        query = "DELETE FROM files WHERE expires <= ? RETURNING id"
        gone = await self._database.write(lambda connection: connection.execute(query, [self.clock()]).fetchall())
        for (id_,) in gone:
            self.path(id_).unlink(missing_ok=True)


@contextmanager
def new_file(folder: Path) -> Iterator[Path]:
    """An empty file in a folder, of which nothing is left where the work on it fails. Raises OSError."""
    descriptor, name = mkstemp(dir=folder)
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


USED = """
SELECT count(*), coalesce(sum(size), 0) FROM (
    SELECT size FROM files WHERE owner = :owner AND (expires IS NULL OR expires > :now)
    UNION ALL
    SELECT size FROM uploads WHERE owner = :owner AND status = 'pending' AND expires > :now
)
"""
PAGE = (
    f"SELECT {COLUMNS} FROM files WHERE {MINE} AND (purpose = :purpose OR :purpose IS NULL)"  # noqa: S608
    " AND (:at IS NULL OR number {} :at) ORDER BY number {} LIMIT :limit"
)
