"""A database goes forward from any version that there was, as a whole or not at all, whoever opens it."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlx_server.app.storage.database import Database, StoreError

FIRST = ("CREATE TABLE things (name TEXT)",)
SECOND = ("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7", "CREATE TABLE places (name TEXT)")


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    return asyncio.run(database.read(lambda connection: connection.execute(query).fetchall()))


def test_old_version_goes_forward_with_what_is_in_it(tmp_path: Path) -> None:
    old = Database(tmp_path / "d", "store", [FIRST])
    asyncio.run(old.change("INSERT INTO things VALUES (?)", ["a"]))
    old.close()
    new = Database(tmp_path / "d", "store", [FIRST, SECOND])
    assert rows(new, "SELECT * FROM things") == [("a", 7)]
    assert rows(new, "PRAGMA user_version") == [(2,)]
    new.close()


def test_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    Database(tmp_path / "d", "store", [FIRST]).close()
    with pytest.raises(StoreError, match=r"the store .*d can't be opened: no such table: missing") as raised:
        Database(tmp_path / "d", "store", [FIRST, (*SECOND, "DROP TABLE missing")])
    assert "\n" not in str(raised.value)
    again = Database(tmp_path / "d", "store", [FIRST])
    assert rows(again, "SELECT name FROM sqlite_master") == [("things",)]
    again.close()


def test_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    Database(tmp_path / "d", "store", [FIRST, SECOND]).close()
    before = (tmp_path / "d").read_bytes()
    with pytest.raises(StoreError, match=r"^the store .*d was made by a newer version of this server$"):
        Database(tmp_path / "d", "store", [FIRST])
    assert (tmp_path / "d").read_bytes() == before


def test_work_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    database = Database(tmp_path / "d", "store", [FIRST])

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES ('a')")
        connection.execute("INSERT INTO missing VALUES ('b')")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        asyncio.run(database.write(half))
    assert rows(database, "SELECT * FROM things") == []
    database.close()


def test_reading_does_not_wait_for_who_writes_and_changes_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "d", "store", [FIRST])
    goes_on = threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES ('a')")
        assert goes_on.wait(60)

    async def both() -> None:
        writing = asyncio.create_task(database.write(slow))
        await asyncio.sleep(0)
        assert await database.read(names) == []
        goes_on.set()
        await writing
        assert await database.read(names) == [("a",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await database.read(lambda connection: connection.execute("DELETE FROM things").fetchall())

    def names(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
        return connection.execute("SELECT name FROM things").fetchall()

    asyncio.run(both())
    database.close()


def test_full_file_is_an_error_and_the_next_work_goes_on(tmp_path: Path) -> None:
    database = Database(tmp_path / "d", "store", [FIRST])
    asyncio.run(database.change("PRAGMA max_page_count = 4", ()))
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            asyncio.run(database.change("INSERT INTO things VALUES (zeroblob(?))", [100_000]))
    asyncio.run(database.change("INSERT INTO things VALUES (?)", ["a"]))
    assert rows(database, "SELECT * FROM things") == [("a",)]
    database.close()


def test_many_processes_may_make_the_same_file_at_once(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from mlx_server.app.storage.database import Database\n"
        "sys.stdin.read()\n"
        "Database(pathlib.Path(sys.argv[1]), 'store', [['CREATE TABLE things (name TEXT)']]).close()"
    )
    command = [sys.executable, "-c", code, tmp_path / "d"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate()[1] for process in processes] == [""] * 4
    opened = Database(tmp_path / "d", "store", [FIRST])
    assert rows(opened, "PRAGMA integrity_check") == [("ok",)]
    opened.close()
