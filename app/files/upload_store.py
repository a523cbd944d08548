"""Files that come in parts: nothing of them is a file before all of them is."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from mlx_server.app.files.file_store import FileStore, StoredFile, new_file
from mlx_server.app.storage.database import Database
from mlx_server.app.storage.durable import link_file, sync_file
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored.files import UploadStatus

LIFETIME_S = 3600
"""How long the parts may take to come."""

REMEMBERED_S = 86_400
"""How long an upload is known after its end."""

COLUMNS = "id, owner, purpose, name, size, created, expires, lifetime, status, file"
PENDING: UploadStatus = "pending"


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An upload's row; `size` are the bytes that were announced, `lifetime` the seconds that its file will stay."""

    id: str
    owner: str
    purpose: str
    name: str
    size: int
    created: int
    expires: int
    lifetime: int | None
    status: UploadStatus
    file: str | None = None


class UploadStore:
    """Uploads of every owner, who sees his own alone. Parts lie beside the files until they are one."""

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files
        self._folder = files.folder / "parts"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    async def create(self, owner: str, purpose: str, name: str, size: int, lifetime_s: int | None) -> StoredUpload:
        """Begin one, whose size counts from now on. Raises InvalidRequest."""
        now = int(self._files.clock())
        id_ = f"upload_{uuid.uuid4().hex}"
        made = StoredUpload(id_, owner, purpose, name, size, now, now + LIFETIME_S, lifetime_s, PENDING)

        def work(connection: sqlite3.Connection) -> None:
            self._files.check_quota(connection, owner, size)
            values = (id_, owner, purpose, name, size, now, made.expires, lifetime_s, PENDING, None)
            connection.execute(f"INSERT INTO uploads ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608

        await self._database.write(work)
        return made

    async def add_part(self, id_: str, owner: str, source: Path, size: int) -> tuple[str, int] | None:
        """Keep a part, which the caller deletes at `source`; it is on the disk when this returns its id and when it
        came, None without such an upload. Raises InvalidRequest."""
        await to_thread.run_sync(sync_file, source)
        part, now = f"part_{uuid.uuid4().hex}", int(self._files.clock())

        def work(connection: sqlite3.Connection) -> bool:
            upload = self._open(connection, id_, owner)
            if upload is None:
                return False
            [here] = connection.execute(
                "SELECT coalesce(sum(size), 0) FROM upload_parts WHERE upload = ?", [id_]
            ).fetchone()
            if here + size > upload.size:
                message = f"`data`: the parts would have {here + size} bytes, and {upload.size} were announced."
                raise InvalidRequest(message, "data")
            link_file(source, self._folder / part)
            connection.execute("INSERT INTO upload_parts VALUES (?, ?, ?, ?)", (part, id_, size, now))
            return True

        return (part, now) if await self._database.write(work) else None

    async def complete(
        self, id_: str, owner: str, parts: Sequence[str], md5: str | None
    ) -> tuple[StoredUpload, StoredFile] | None:
        """Make a file of the parts, in this order; None without such an upload. Raises InvalidRequest."""

        def here(connection: sqlite3.Connection) -> tuple[StoredUpload | None, dict[str, int]]:
            return self._open(connection, id_, owner), dict(connection.execute(PARTS, [id_]))

        upload, sizes = await self._database.read(here)
        if upload is None:
            return None
        check_parts(parts, sizes, upload.size)
        try:
            whole = await to_thread.run_sync(joined, [self._folder / part for part in parts], self._files.incoming, md5)
        except FileNotFoundError:
            await self._database.read(here)  # it may have ended meanwhile, and then says so
            raise
        try:
            file = self._files.new(owner, upload.purpose, upload.name, upload.size, upload.lifetime)

            def work(connection: sqlite3.Connection) -> list[str]:
                self._open(connection, id_, owner)
                self._files.insert(connection, file, whole)
                return self._end(connection, id_, "completed", file.id)

            self._forget(await self._database.write(work))
        finally:
            whole.unlink(missing_ok=True)
        return replace(upload, status="completed", file=file.id), file

    async def cancel(self, id_: str, owner: str) -> StoredUpload | None:
        """End one without a file; None without such an upload. Raises InvalidRequest."""

        def work(connection: sqlite3.Connection) -> tuple[StoredUpload, list[str]] | None:
            if (upload := self._open(connection, id_, owner)) is None:
                return None
            return upload, self._end(connection, id_, "cancelled")

        found = await self._database.write(work)
        if found is None:
            return None
        self._forget(found[1])
        return replace(found[0], status="cancelled")

    async def drop_expired(self) -> None:
        """End what has not come in time, and forget what ended long ago."""
        now = self._files.clock()

        def work(connection: sqlite3.Connection) -> list[str]:
            late = connection.execute("SELECT id FROM uploads WHERE status = 'pending' AND expires <= ?", [now])
            parts = [part for (id_,) in late.fetchall() for part in self._end(connection, id_, "expired")]
            connection.execute("DELETE FROM uploads WHERE status <> 'pending' AND expires <= ?", [now - REMEMBERED_S])
            return parts

        self._forget(await self._database.write(work))

    def _open(self, connection: sqlite3.Connection, id_: str, owner: str) -> StoredUpload | None:
        """The upload, if it is still one. Raises InvalidRequest if it has ended."""
        query = f"SELECT {COLUMNS} FROM uploads WHERE id = ? AND owner = ?"  # noqa: S608
        row = connection.execute(query, (id_, owner)).fetchone()
        if row is None:
            return None
        upload = StoredUpload(*row)
        status = upload.status if upload.expires > self._files.clock() or upload.status != PENDING else "expired"
        if status != PENDING:
            raise InvalidRequest(f"The upload is {status}: it takes nothing more.", "upload_id", "upload_ended")
        return upload

    def _end(
        self, connection: sqlite3.Connection, id_: str, status: UploadStatus, file: str | None = None
    ) -> list[str]:
        """Move an upload to its end; returns the ids of its parts, which are to be deleted after the transaction."""
        connection.execute("UPDATE uploads SET status = ?, file = ? WHERE id = ?", (status, file, id_))
        return [part for (part,) in connection.execute("DELETE FROM upload_parts WHERE upload = ? RETURNING id", [id_])]

    def _forget(self, parts: Iterable[str]) -> None:
        for part in parts:
            (self._folder / part).unlink(missing_ok=True)


def check_parts(parts: Sequence[str], sizes: dict[str, int], announced: int) -> None:
    """Raise InvalidRequest for parts that are not there, that come twice, or that are not what was announced."""
    for index, part in enumerate(parts):
        if part not in sizes:
            raise InvalidRequest(f"`part_ids[{index}]`: this upload has no part {part[:64]!r}.", f"part_ids[{index}]")
    if len(set(parts)) < len(parts):
        raise InvalidRequest("`part_ids`: each part is allowed once.", "part_ids")
    if (size := sum(sizes[part] for part in parts)) != announced:
        raise InvalidRequest(f"`part_ids`: the parts have {size} bytes, and {announced} were announced.", "part_ids")


def joined(parts: Sequence[Path], folder: Path, md5: str | None) -> Path:
    """A new file of all parts, on the disk when this returns. Raises InvalidRequest or OSError."""
    with new_file(folder) as path:
        with path.open("wb") as whole:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole, 1 << 20)
        sync_file(path)
        with path.open("rb") as file:
            if md5 is not None and hashlib.file_digest(file, "md5").hexdigest() != md5.lower():
                raise InvalidRequest("`md5` is not that of the parts in this order.", "md5")
    return path


PARTS = "SELECT id, size FROM upload_parts WHERE upload = ?"
