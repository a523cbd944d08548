"""Batches in the database of the files, and their results beside it: what counts is committed, and counts once."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread

from mlx_server.app.batches.result_files import cut_off, write_at
from mlx_server.app.batches.rows import MAY_BE_CANCELLED, UNFINISHED, Outcome, PendingLine, StoredBatch
from mlx_server.app.files.file_store import FileStore
from mlx_server.app.storage.database import Database
from mlx_server.app.storage.durable import link_file, sync_folder
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored.batches import BatchError, Status

MOST_UNFINISHED = 100
"""Batches of one owner that are not at their end."""

COLUMNS = StoredBatch.__struct_fields__
LISTED = ", ".join(COLUMNS)
INPUT, OUTPUT, ERRORS = "input.jsonl", "output.jsonl", "errors.jsonl"


class BatchGone(Exception):  # noqa: N818 - named for the fact
    """Raised when a batch was deleted meanwhile."""


class BatchStore:
    """Batches of every owner, who sees his own alone; what one needs lies in a folder of its own below `folder`.

    Raises sqlite3.Error and OSError.
    """

    def __init__(self, database: Database, folder: Path, files: FileStore) -> None:
        self.folder = folder
        self.files = files
        self._database = database
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, batch: StoredBatch, name: str) -> Path:
        """Where a file of a batch lies."""
        return self.folder / batch.id / name

    async def create(self, batch: StoredBatch, source: Path) -> StoredBatch:
        """Keep a new batch with its input, which the caller may delete at `source`. Raises InvalidRequest."""

        def work(connection: sqlite3.Connection) -> int:
            unfinished = f"SELECT count(*) FROM batches WHERE owner = ? AND status IN ({marks(UNFINISHED)})"  # noqa: S608
            [count] = connection.execute(unfinished, (batch.owner, *UNFINISHED)).fetchone()
            if count >= MOST_UNFINISHED:
                message = f"{count} batches are under way, and no more are allowed at a time; wait for one to end."
                raise InvalidRequest(message, code="too_many_batches")
            (self.folder / batch.id).mkdir(mode=0o700)
            link_file(source, self.path(batch, INPUT))
            sync_folder(self.folder)
            return insert(connection, batch)

        try:
            number = await self._database.write(work)
        except (InvalidRequest, sqlite3.Error, OSError):
            # Not where nobody waits any more: then it is kept.
            shutil.rmtree(self.folder / batch.id, ignore_errors=True)
            raise
        return msgspec.structs.replace(batch, number=number)

    async def get(self, id_: str, owner: str, *, anthropic: bool = False) -> StoredBatch | None:
        """The batch of that id."""
        found = await self._select("WHERE id = ? AND owner = ? AND anthropic = ?", (id_, owner, anthropic))
        return found[0] if found else None

    async def page(
        self, owner: str, *, after: str | None, limit: int, ascending: bool = False, anthropic: bool = False
    ) -> list[StoredBatch] | None:
        """Batches, the newest first or the other way round; None if there is none `after`."""
        last = None if after is None else await self.get(after, owner, anthropic=anthropic)
        if after is not None and last is None:
            return None
        compared, order = (">", "ASC") if ascending else ("<", "DESC")
        where = (
            f"WHERE owner = ? AND anthropic = ? AND (? IS NULL OR number {compared} ?) ORDER BY number {order} LIMIT ?"
        )
        at = last and last.number
        return await self._select(where, (owner, anthropic, at, at, limit))

    async def unfinished(self) -> list[StoredBatch]:
        """All that are not at their end, the oldest first."""
        return await self._select(f"WHERE status IN ({marks(UNFINISHED)}) ORDER BY number", UNFINISHED)

    async def fresh(self, batch: StoredBatch) -> StoredBatch:
        """The same batch as it is now. Raises BatchGone."""
        for found in await self._select("WHERE number = ?", (batch.number,)):
            return found
        raise BatchGone(batch.id)

    async def move(self, batch: StoredBatch, status: Status, **also: Any) -> StoredBatch:
        """Give a batch a state, and the time in its column, unless it has left the one of `batch`; as it is then.

        Raises BatchGone.
        """
        given = {status: int(self.files.clock()), **also, "status": status}
        assigned = ", ".join(f"{name} = :{name}" for name in given)
        where = "number = :number AND status = :before"
        values = {**given, "number": batch.number, "before": batch.status}
        await self._database.change(f"UPDATE batches SET {assigned} WHERE {where}", values)  # noqa: S608
        return await self.fresh(batch)

    async def cancel(self, id_: str, owner: str, *, anthropic: bool = False) -> bool:
        """Begin to end a batch; tells whether it could be."""
        allowed = ", ".join(map(repr, MAY_BE_CANCELLED))
        change = "UPDATE batches SET status = 'cancelling', cancelling = ? WHERE id = ? AND owner = ? AND anthropic = ?"
        given = (int(self.files.clock()), id_, owner, anthropic)
        return await self._database.change(f"{change} AND status IN ({allowed})", given) > 0

    async def forget_lines(self, batch: StoredBatch) -> None:
        """Forget its lines, a few at a time: others want the database, too."""
        query = (
            "DELETE FROM batch_lines WHERE batch = ? AND line IN (SELECT line FROM batch_lines WHERE batch = ? LIMIT ?)"
        )
        while await self._database.change(query, (batch.number, batch.number, 2000)):
            pass

    async def add_lines(self, batch: StoredBatch, lines: Sequence[PendingLine]) -> list[BatchError]:
        """Keep lines of its input; returns what is wrong with them."""

        def work(connection: sqlite3.Connection) -> list[BatchError]:
            added = (
                connection.execute(ADD_LINE, (batch.number, *msgspec.structs.astuple(line))).rowcount for line in lines
            )
            return [repeated(line) for line, count in zip(lines, added, strict=True) if not count]

        return await self._database.write(work)

    async def settle_order(self, batch: StoredBatch) -> None:
        """Once all lines are there: those whose beginning is theirs alone stand among those of their length."""
        await self._database.change(ALONE, {"batch": batch.number})

    async def models(self, batch: StoredBatch) -> list[str | None]:
        """What its lines that are still to be done call their models."""
        query = "SELECT DISTINCT model FROM batch_lines WHERE batch = ? AND done = 0 ORDER BY model"

        def work(connection: sqlite3.Connection) -> list[str | None]:
            return [model for (model,) in connection.execute(query, (batch.number,))]

        return await self._database.read(work)

    async def to_do(self, batch: StoredBatch, limit: int) -> list[PendingLine]:
        """Some of the lines that are still to be done."""
        return await self._lines(TO_DO.format(""), (batch.number, limit))

    async def next_of(
        self, batch: StoredBatch, model: str | None, after: PendingLine | None, limit: int
    ) -> list[PendingLine]:
        """The next lines for a model in their order that are still to be done."""
        at = () if after is None else (after.beginning, after.beginning, -after.size, after.line)
        query = TO_DO.format("AND model IS ?" if after is None else FURTHER)
        return await self._lines(query, (batch.number, model, *at, limit))

    async def _lines(self, query: str, given: Sequence[Any]) -> list[PendingLine]:
        return await self._database.read(
            lambda connection: [PendingLine(*row) for row in connection.execute(query, given)]
        )

    async def record(self, batch: StoredBatch, outcomes: Sequence[Outcome]) -> None:
        """Keep what became of lines, each once, whoever tells it how often; it is on the disk when this returns. Raises
        BatchGone."""
        await self._database.write(lambda connection: self._record(connection, batch, outcomes))

    def _record(self, connection: sqlite3.Connection, batch: StoredBatch, outcomes: Sequence[Outcome]) -> None:
        found = connection.execute(
            "SELECT output_bytes, error_bytes FROM batches WHERE number = ?", [batch.number]
        ).fetchone()
        if found is None:
            raise BatchGone(batch.id)
        ends = list(found)
        new = [one for one in outcomes if connection.execute(DONE, (batch.number, one.line)).rowcount]
        for index, name in enumerate((OUTPUT, ERRORS)):
            data = b"".join(one.written for one in new if (one.ok or batch.anthropic) == (name == OUTPUT))
            if data:
                write_at(self.path(batch, name), data, ends[index])
                ends[index] += len(data)
        counts = {name: sum(getattr(one, name) for one in new) for name in COUNTED}
        done = sum(one.ok for one in new)
        wrong = sum(one.counted and not one.ok for one in new)
        given = {**counts, "done": done, "wrong": wrong, "number": batch.number}
        connection.execute(COUNT, {**given, "output_bytes": ends[0], "error_bytes": ends[1]})

    async def finish(self, batch: StoredBatch, status: Status) -> None:
        """Bring a batch to its end: its results become files of its owner's."""

        def work(connection: sqlite3.Connection) -> None:
            made = {} if batch.anthropic else {"output_file": self._kept(connection, batch, OUTPUT, batch.output_bytes)}
            if not batch.anthropic:
                made["error_file"] = self._kept(connection, batch, ERRORS, batch.error_bytes)
            given = {**made, status: int(self.files.clock()), "status": status, "number": batch.number}
            assigned = ", ".join(f"{name} = :{name}" for name in given if name != "number")
            connection.execute(f"UPDATE batches SET {assigned} WHERE number = :number", given)  # noqa: S608

        if batch.anthropic:
            cut_off(self.path(batch, OUTPUT), batch.output_bytes)
        await self._database.write(work)
        await self.forget_work(batch)

    async def forget_work(self, batch: StoredBatch) -> None:
        """Forget what nobody needs of a batch that has ended: all but the results of Anthropic's."""
        if batch.anthropic:
            self.path(batch, INPUT).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder / batch.id, ignore_errors=True)
        await self.forget_lines(batch)

    def _kept(self, connection: sqlite3.Connection, batch: StoredBatch, name: str, size: int) -> str | None:
        """The id of the file that one of a batch's becomes; None for an empty one."""
        if not size:
            return None
        path = self.path(batch, name)
        cut_off(path, size)
        file = self.files.new(batch.owner, "batch_output", f"{batch.id}_{name}", size, batch.output_lifetime)
        self.files.insert(connection, file, path)
        return file.id

    async def delete(self, batch: StoredBatch) -> None:
        """Forget a batch that has come to its end."""
        await self.forget_lines(batch)
        await self._database.change("DELETE FROM batches WHERE number = ?", [batch.number])
        shutil.rmtree(self.folder / batch.id, ignore_errors=True)

    async def drop_old(self, before: float) -> None:
        """Forget those that ended before that time."""
        where = f"WHERE status NOT IN ({marks(UNFINISHED)}) AND {ENDED} < ?"
        for batch in await self._select(where, (*UNFINISHED, before)):
            await self.delete(batch)

    async def drop_strays(self, before: float) -> None:
        """Delete folders that no batch needs and that nothing has been put into since a time, by the disk's clock."""
        found = await to_thread.run_sync(older_folders, self.folder, before)
        query = f"SELECT id FROM batches WHERE anthropic OR status IN ({marks(UNFINISHED)})"  # noqa: S608
        needed = await self._database.read(lambda connection: {id_ for (id_,) in connection.execute(query, UNFINISHED)})
        for folder in found:
            if folder.name not in needed:
                await to_thread.run_sync(partial(shutil.rmtree, ignore_errors=True), folder)

    async def _select(self, where: str, given: Iterable[Any]) -> list[StoredBatch]:
        values = tuple(given)

        def work(connection: sqlite3.Connection) -> list[StoredBatch]:
            rows = connection.execute(f"SELECT {LISTED} FROM batches {where}", values)  # noqa: S608
            return [StoredBatch(**dict(zip(COLUMNS, row, strict=True))) for row in rows]

        return await self._database.read(work)


def insert(connection: sqlite3.Connection, batch: StoredBatch) -> int:
    """Keep a batch as a new row; returns its number."""
    given = {name: value for name, value in msgspec.structs.asdict(batch).items() if name != "number"}
    statement = f"INSERT INTO batches ({', '.join(given)}) VALUES ({', '.join(f':{name}' for name in given)})"  # noqa: S608
    number = connection.execute(statement, given).lastrowid
    assert number is not None
    return number


def older_folders(folder: Path, before: float) -> list[Path]:
    """Folders in a folder that were last changed before a time. Raises OSError."""
    return [Path(one) for one in os.scandir(folder) if one.is_dir() and one.stat().st_mtime < before]


def marks(values: Sequence[str]) -> str:
    """A place for each value in a statement."""
    return ", ".join("?" * len(values))


def repeated(line: PendingLine) -> BatchError:
    """The refusal of a line whose id another has."""
    message = f"`custom_id`: {line.custom_id[:64]!r} is that of an earlier line."
    return BatchError("duplicate_custom_id", message, line.line, "custom_id")


ENDED = "coalesce(completed, failed, expired, cancelled, created)"
COUNTED = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
ADD_LINE = """
INSERT OR IGNORE INTO batch_lines (batch, line, at, size, custom_id, model, beginning) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
DONE = "UPDATE batch_lines SET done = 1 WHERE batch = ? AND line = ? AND done = 0"
COUNT = f"""
UPDATE batches SET done = done + :done, wrong = wrong + :wrong,
output_bytes = :output_bytes, error_bytes = :error_bytes,
{", ".join(f"{name} = {name} + :{name}" for name in COUNTED)} WHERE number = :number
"""  # noqa: S608
ALONE = """
UPDATE batch_lines SET beginning = x'' WHERE batch = :batch AND beginning <> x'' AND substr(beginning, 1, 8) IN (
    SELECT substr(beginning, 1, 8) FROM batch_lines WHERE batch = :batch GROUP BY 1 HAVING count(*) = 1
)
"""
TO_DO = """
SELECT line, at, size, custom_id, model, beginning FROM batch_lines WHERE batch = ? AND done = 0 {}
ORDER BY model, beginning, size DESC, line LIMIT ?
"""
FURTHER = "AND model IS ? AND beginning >= ? AND (beginning > ? OR (-size, line) > (?, ?))"
