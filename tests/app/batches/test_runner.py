"""What runs all batches: a disk that refuses, and what is forgotten when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.batches import good, jsonl, line, made, opened
from support.running.fleets import LONG_S, scripted, settings_of, started, until
from support.running.servers import chat_body

from mlx_server.app.batches.batch_store import INPUT, BatchGone, BatchStore
from mlx_server.app.batches.calls import Call, LineAnswer
from mlx_server.app.batches.rows import PendingLine, StoredBatch
from mlx_server.app.batches.runner import BatchRunner
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.keys import Credential

DAY_S = 86_400


class Refusing(BatchStore):
    """Can't forget old batches the first time."""

    asked = 0

    async def drop_old(self, before: float) -> None:
        """Forget them, if it can."""
        self.asked += 1
        if self.asked == 1:
            raise OSError("the disk refuses")
        await super().drop_old(before)


class Stumbling(Fleet):
    """Fails the first time that it is asked for memory."""

    asked = 0

    async def has_spare(self, name: str, rest_s: float) -> bool:
        """Whether there is any, which is no question of it the first time."""
        self.asked += 1
        if self.asked == 1:
            raise TypeError("'int' object is not iterable")
        return await super().has_spare(name, rest_s)


class Spelling(Fleet):
    """Finds one model by every name, if it looks for it."""

    async def deployment_of(self, name: str | None) -> Deployment:
        """The one."""
        return await super().deployment_of("own")


@asynccontextmanager
async def running(store: BatchStore, call: Call = good, fleet: Fleet | None = None) -> AsyncIterator[BatchRunner]:
    """A runner whose lines meet no model: `call` answers them."""
    fleet = fleet or Fleet(settings_of(scripted("m")))
    runner = BatchRunner(store, fleet, call, lambda owner: Credential(), 10_000)
    runner.start()
    try:
        async with asyncio.timeout(LONG_S):
            yield runner
    finally:
        await runner.close()


async def completed(store: BatchStore, batch: StoredBatch) -> None:
    while (await store.fresh(batch)).status != "completed":  # noqa: ASYNC110 - nothing tells of its end
        await asyncio.sleep(0.01)


def test_batches_run_where_old_ones_cannot_be_forgotten(tmp_path: Path) -> None:
    async def scenario(store: Refusing) -> None:
        batch = await made(store)
        async with running(store):
            await completed(store, batch)
            assert store.asked == 1

    with opened(Refusing, tmp_path) as store:
        asyncio.run(scenario(store))


def test_batches_run_where_a_model_stumbles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(store: BatchStore) -> None:
        batch = await made(store, 3)
        fleet = Stumbling(settings_of(scripted("m")))
        async with running(store, fleet=fleet):
            await completed(store, batch)
        assert fleet.asked > 1
        assert "'int' object is not iterable" in caplog.text

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))


def test_model_has_all_its_rows_however_lines_spell_it(tmp_path: Path) -> None:
    """Once its first line is answered by the deployment of another name."""
    together: set[str] = set()

    async def call(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        together.add(line.custom_id)
        if line.custom_id != "0":
            await until(lambda: len(together) == 5)
        return LineAnswer(200, b"{}", None, ran=True, model="own")

    async def scenario(store: BatchStore) -> None:
        fleet = Spelling(settings_of(scripted("own", max_concurrency=4), scripted("other")))
        async with started(fleet), running(store, call, fleet):
            await completed(store, await made(store, 5))

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))


def test_lines_for_a_model_that_is_loaded_wait_for_no_other(tmp_path: Path) -> None:
    done: list[str] = []

    async def call(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        done.append(line.model or "")
        return await good(batch, line, body, credential)

    async def scenario(store: BatchStore) -> None:
        fleet = Fleet(settings_of(scripted("a"), scripted("b"), max_models=1, auto_load=False))
        lines = jsonl(line(str(number), chat_body("x", model="ba"[number % 2])) for number in range(600))
        batch = await made(store, anthropic=True)
        store.path(batch, INPUT).write_bytes(lines)
        async with started(fleet), running(store, call, fleet) as runner:
            await until(lambda: len(done) == 300)
            waiting = await store.fresh(batch)
            await until(lambda: runner.waiting_for(waiting) == "model")
            await fleet.unload("a")
            await fleet.load("b")
            await completed(store, batch)
        assert done == ["a"] * 300 + ["b"] * 300

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))


def test_batches_run_once_the_disk_lets_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(store: BatchStore) -> None:
        (lock := store.folder / "lock").mkdir()
        batch = await made(store)
        async with running(store):
            await until(lambda: "batches can't be run yet" in caplog.text)
            lock.rmdir()
            await completed(store, batch)

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))


def test_batch_that_is_deleted_keeps_no_other_from_running(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def call(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        if batch.id == "batch_gone":
            begun.set()
            await asyncio.Event().wait()
        return await good(batch, line, body, credential)

    async def scenario(store: BatchStore) -> None:
        gone = await made(store, id="batch_gone")
        async with running(store, call) as runner:
            await begun.wait()
            await store.delete(gone)
            with pytest.raises(BatchGone):
                await store.fresh(gone)
            await runner.look_at(gone)

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))


def test_batch_is_known_for_as_long_after_its_end_whenever_it_was_made(tmp_path: Path) -> None:
    async def scenario(store: BatchStore) -> None:
        now = int(store.files.clock())
        then = now - 31 * DAY_S
        for name, end in (("old", then), ("new", now)):
            await made(store, id=name, created=then, status="completed", completed=end)
        await made(store, id="never ended", created=then)
        await store.drop_old(now - 30 * DAY_S)
        assert [one is not None for one in [await store.get(name, "") for name in ("old", "new")]] == [False, True]
        assert await store.get("never ended", "")
        assert not (store.folder / "old").exists()

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))


def test_folders_that_no_batch_needs_are_deleted_once_they_are_old(tmp_path: Path) -> None:
    async def scenario(store: BatchStore) -> None:
        await made(store, id="under way")
        await made(store, id="ended", status="completed")
        await made(store, id="results", status="completed", anthropic=True)
        for name in ("stray", "new stray"):
            (store.folder / name).mkdir()
        (store.folder / "lock").touch()
        now = store.files.clock()
        for folder in store.folder.iterdir():
            if folder.name != "new stray":
                os.utime(folder, (now - DAY_S, now - DAY_S))
        await store.drop_strays(now - DAY_S / 2)
        left = {one.name for one in store.folder.iterdir()}
        assert left == {"under way", "results", "new stray", "lock"}

    with opened(BatchStore, tmp_path) as store:
        asyncio.run(scenario(store))
