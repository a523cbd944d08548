"""What is kept is there again after a restart and a kill, for its owner alone, and within its limits."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_server.app.responses.conversation_store import StoredConversation
from mlx_server.app.responses.response_store import MIGRATIONS, ChainTooLongError, Record, ResponseStore
from mlx_server.app.storage.database import Database, StoreError

MANY = 1 << 30
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., ResponseStore]]:
    stores = []

    def make(path: Path | None = tmp_path / "data" / "responses.sqlite3", **limits: Any) -> ResponseStore:
        stores.append(ResponseStore(path, **{"max_bytes": MANY, "max_age_s": DAY, **limits}))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def record(id_: str, previous: str | None = None, owner: str = "me", size: int = 2) -> Record:
    return Record(id_, owner, previous, b"r" * size, b"i" + id_.encode(), b"e")


def run(work: Awaitable[Any]) -> Any:
    async def awaited() -> Any:
        return await work

    return asyncio.run(awaited())


def ids(store: ResponseStore, *asked: str) -> list[str]:
    return [id_ for id_ in asked if run(store.get(id_, "me"))]


def put(store: ResponseStore, *records: Record) -> None:
    for each in records:
        run(store.put(each))


@pytest.mark.parametrize("path", [{}, {"path": None}])
def test_what_is_kept_comes_back(open_store: Callable[..., ResponseStore], path: dict[str, None]) -> None:
    store = open_store(**path)
    put(store, record("a"), record("b", size=1 << 20))
    assert run(store.get("b", "me")) == record("b", size=1 << 20)
    put(store, record("a", size=9))
    assert run(store.get("a", "me")) == record("a", size=9)
    assert run(store.get("c", "me")) is None


def test_what_is_kept_is_there_after_a_restart(open_store: Callable[..., ResponseStore]) -> None:
    first = open_store()
    put(first, record("a"))
    assert ids(open_store(), "a") == ["a"]


def test_what_is_kept_is_there_after_a_kill(open_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    path = tmp_path / "killed.sqlite3"
    code = (
        "import asyncio, os, sys, pathlib\n"
        "from mlx_server.app.responses.response_store import Record, ResponseStore\n"
        "store = ResponseStore(pathlib.Path(sys.argv[1]), max_bytes=1 << 30, max_age_s=1000)\n"
        "asyncio.run(store.put(Record('a', 'me', None, b'rr', b'ia', b'e')))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -9
    assert run(open_store(path).get("a", "me")) == record("a")


def test_another_owner_sees_nothing(open_store: Callable[..., ResponseStore]) -> None:
    store = open_store()
    put(store, record("a"), record("b", "a", "you"))
    assert run(store.get("a", "you")) is None
    assert run(store.chain("a", "you", MANY)) == []
    assert not run(store.delete("a", "you"))
    assert [r.id for r in run(store.chain("b", "you", MANY))] == ["b"]
    assert ids(store, "a") == ["a"]


def test_what_was_deleted_by_another_server_stays_so(open_store: Callable[..., ResponseStore]) -> None:
    one, other = open_store(), open_store()
    put(one, record("a"), record("b"))
    assert run(other.delete("a", "me"))
    assert not run(one.replace(record("a", size=9)))
    assert not run(one.replace(record("b", owner="you", size=9)))
    assert run(one.replace(record("b", size=9)))
    assert run(other.get("a", "me")) is None
    assert run(other.get("b", "me")) == record("b", size=9)


def test_chain_goes_back_to_the_beginning(open_store: Callable[..., ResponseStore]) -> None:
    store = open_store()
    put(store, record("a"), record("b", "a"), record("c", "b"), record("d", "a"))
    found = run(store.chain("c", "me", MANY))
    assert found == [replace(one, events=b"") for one in (record("a"), record("b", "a"), record("c", "b"))]
    assert [r.id for r in run(store.chain("d", "me", MANY))] == ["a", "d"]


def test_chain_whose_middle_is_gone_says_so(open_store: Callable[..., ResponseStore]) -> None:
    store = open_store()
    put(store, record("a"), record("b", "a"), record("c", "b"))
    assert run(store.delete("b", "me"))
    assert not run(store.delete("b", "me"))
    [left] = run(store.chain("c", "me", MANY))
    assert left.previous == "b"


def test_chain_is_not_read_if_it_is_too_large(open_store: Callable[..., ResponseStore]) -> None:
    store = open_store()
    put(store, record("a", size=1000), record("b", "a", size=1000))
    assert len(run(store.chain("b", "me", 2004))) == 2
    with pytest.raises(ChainTooLongError):
        run(store.chain("b", "me", 2003))


def test_full_store_forgets_what_was_used_least_recently(open_store: Callable[..., ResponseStore]) -> None:
    clock = Clock()
    store = open_store(max_bytes=1 << 20, clock=clock)
    for name in "abcde":
        clock.now += 1
        put(store, record(name, size=1 << 18))
        if name == "c":
            clock.now += 1
            run(store.chain("a", "me", MANY))
    assert ids(store, *"abcde") == ["a", "d", "e"]


def test_full_store_stays_within_its_size_on_disk(open_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    path = tmp_path / "small.sqlite3"
    store = open_store(path, max_bytes=1 << 20)
    for n in range(200):
        put(store, record(str(n), size=50_000))
    store.close()
    assert path.stat().st_size < 1.5 * (1 << 20)
    assert len(ids(open_store(path), *map(str, range(200)))) > 10


def test_old_responses_are_gone_unless_they_were_continued(open_store: Callable[..., ResponseStore]) -> None:
    clock = Clock()
    store = open_store(clock=clock)
    put(store, record("a"), record("b"), record("c", "b"))
    clock.now += 0.9 * DAY
    run(store.chain("c", "me", MANY))
    clock.now += 0.2 * DAY
    assert ids(store, "a", "b", "c") == ["b", "c"]
    assert run(store.chain("a", "me", MANY)) == []
    put(store, record("d"))
    clock.now -= DAY
    assert ids(store, "a") == []


def test_deleted_text_is_overwritten(open_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    path = tmp_path / "secret.sqlite3"
    store = open_store(path)
    put(store, Record("a", "me", None, b"my-secret-answer", b"", b""))
    run(store.delete("a", "me"))
    store.close()
    assert b"my-secret-answer" not in path.read_bytes()


def test_only_the_user_can_read_the_file(open_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    path = tmp_path / "new" / "responses.sqlite3"
    put(open_store(path), record("a"))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_servers_may_share_a_file(open_store: Callable[..., ResponseStore]) -> None:
    one, other = open_store(), open_store()

    async def both() -> None:
        await asyncio.gather(*(store.put(record(f"{i}{n}")) for i, store in enumerate((one, other)) for n in range(50)))

    asyncio.run(both())
    assert len(ids(one, *(f"{i}{n}" for i in range(2) for n in range(50)))) == 100


def test_what_is_no_database_is_refused(open_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("This is no database, and it is long enough to be seen as none. " * 20)
    with pytest.raises(StoreError, match="text can't be opened: file is not a database"):
        open_store(path)
    with pytest.raises(StoreError, match="can't be opened"):
        open_store(path / "below")


def test_database_of_a_newer_version_is_refused(open_store: Callable[..., ResponseStore], tmp_path: Path) -> None:
    path = tmp_path / "newer"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="was made by a newer version"):
        open_store(path)


def held(store: ResponseStore, *asked: str, owner: str = "me") -> list[str]:
    return sorted(record.id for record in run(store.holding(asked, owner, MANY)))


def test_items_are_found_in_the_newest_response_that_has_them(open_store: Callable[..., ResponseStore]) -> None:
    store = open_store()
    put(store, Record("a", "me", None, b"r", b"i", item_ids=("1", "2")))
    put(store, Record("b", "me", "a", b"r", b"i", item_ids=("2", "3")), Record("c", "you", None, b"r", b"i"))
    assert held(store, "1") == ["a"]
    assert held(store, "2", "3") == ["b"]
    assert held(store, "1", "2", "4") == ["a", "b"]
    assert held(store, "1", "2", owner="you") == []
    with pytest.raises(ChainTooLongError):
        run(store.holding(["1", "2"], "me", 3))
    put(store, Record("b", "me", "a", b"r", b"i", item_ids=("3",)))
    assert held(store, "2") == ["a"]
    run(store.delete("a", "me"))
    assert held(store, "1", "2", "3") == ["b"]


def test_items_of_an_older_versions_responses_are_found(
    open_store: Callable[..., ResponseStore], tmp_path: Path
) -> None:
    path = tmp_path / "old.sqlite3"
    old = Database(path, "old store", MIGRATIONS[:1])
    values = ("a", "me", None, 1e9, b'{"output":[{"id":"2"}]}', b'[{"id":"1"}]', b"")
    run(old.change("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", values))
    old.close()
    store = open_store(path, clock=Clock())
    assert held(store, "1") == held(store, "2") == ["a"]


def begin(store: ResponseStore, id_: str, *items: bytes) -> None:
    made = StoredConversation(id_, 1, b"{}")
    run(store.conversations.create(made, "me", [(f"{id_}{n}", item) for n, item in enumerate(items)]))


def test_conversations_share_the_limits_with_responses(open_store: Callable[..., ResponseStore]) -> None:
    clock = Clock()
    store = open_store(max_bytes=330_000, clock=clock)
    begin(store, "old", b"x" * 100_000)
    begin(store, "used", b"x" * 100_000)
    clock.now += 1
    put(store, record("a", size=50_000))
    clock.now += 1
    assert run(store.conversations.items("used", "me", MANY)) == [b"x" * 100_000]
    clock.now += 1
    put(store, record("b", size=100_000))
    kept = [id_ for id_ in ("old", "used") if run(store.conversations.get(id_, "me"))]
    assert (kept, ids(store, "a", "b")) == (["used"], ["a", "b"])
    clock.now += DAY + 1
    assert run(store.conversations.get("used", "me")) is None
    assert run(store.conversations.items("used", "me", MANY)) is None
    assert not run(store.conversations.add("used", "me", [("1", b"y")]))


def test_conversation_is_its_owners(open_store: Callable[..., ResponseStore]) -> None:
    conversations = open_store().conversations
    run(conversations.create(StoredConversation("a", 1, b"{}"), "me", [("1", b"x")]))
    assert run(conversations.get("a", "you")) is None
    assert run(conversations.items("a", "you", MANY)) is None
    assert run(conversations.page("a", "you", after=None, limit=9, ascending=True)) == []
    assert run(conversations.item("a", "you", "1")) is None
    assert run(conversations.holding(["1"], "you")) == []
    assert not run(conversations.add("a", "you", [("2", b"y")]))
    assert not run(conversations.update("a", "you", b"{}"))
    assert not run(conversations.remove("a", "you", "1"))
    assert not run(conversations.delete("a", "you"))
    assert run(conversations.items("a", "me", MANY)) == [b"x"]
