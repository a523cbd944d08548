"""A batch on its way, with a store of its own and answers that the test gives."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from support.batches import good, made, opened

from mlx_server.app.batches.batch_run import BatchRun
from mlx_server.app.batches.batch_store import INPUT, OUTPUT, BatchStore
from mlx_server.app.batches.calls import MOST_ATTEMPTS, Call, LineAnswer
from mlx_server.app.batches.rows import Outcome, PendingLine, StoredBatch
from mlx_server.app.http.keys import Credential
from mlx_server.schemas.openai.stored.batches import BatchError

ROWS = 4
SOON_S = 30.0


class Store(BatchStore):
    """A store beside which another server cancels a batch at a moment of its validation, or whose disk has a bad one
    while lines are run, or is full when a batch ends."""

    cancelled: StoredBatch | None = None
    run: BatchRun | None = None
    unreadable = 0
    """How often the input can't be read once lines are run."""
    room: int | None = None
    """How often results can be kept, or lines be forgotten, before the disk is full once."""

    def fill(self) -> None:
        """Take some of the room that there is."""
        if self.room is not None:
            self.room, full = (self.room - 1, False) if self.room else (None, True)
            if full:
                raise sqlite3.OperationalError("database or disk is full")

    async def record(self, batch: StoredBatch, outcomes: Sequence[Outcome]) -> None:
        """Keep them, if it can."""
        self.fill()
        await super().record(batch, outcomes)

    async def forget_lines(self, batch: StoredBatch) -> None:
        """Forget them, if it can."""
        self.fill()
        await super().forget_lines(batch)

    def path(self, batch: StoredBatch, name: str) -> Path:
        """Where a file lies, or where none does."""
        if name == INPUT and batch.status == "in_progress" and self.unreadable:
            self.unreadable -= 1
            return self.folder / "nowhere"
        return super().path(batch, name)

    async def add_lines(self, batch: StoredBatch, lines: Sequence[PendingLine]) -> list[BatchError]:
        """Keep them; the other server cancels it."""
        if self.cancelled is not None:
            await self.cancel(self.cancelled.id, self.cancelled.owner)
        return await super().add_lines(batch, lines)

    async def settle_order(self, batch: StoredBatch) -> None:
        """Settle it; meanwhile it is looked what other servers were asked for."""
        await super().settle_order(batch)
        if self.run is not None:
            self.run.refresh(await self.fresh(batch))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(Store, tmp_path) as store:
        yield store


async def finished(run: BatchRun) -> None:
    """Give it rows until it has ended."""

    async def fill() -> None:
        while True:
            while len(run.on_their_way) < ROWS and (line := next(run.ready(), None)) is not None:
                run.start(line)
            await asyncio.sleep(0.01)

    filling = asyncio.create_task(fill())
    async with asyncio.timeout(SOON_S):
        await run.run()
    filling.cancel()
    with suppress(asyncio.CancelledError):
        await filling


async def known(model: str | None) -> None:
    """Every name is a model's."""


def run_of(batch: StoredBatch, store: BatchStore, call: Call = good) -> BatchRun:
    run = BatchRun(
        batch,
        store,
        call,
        credential=lambda owner: Credential(),
        changed=lambda: None,
        may_try=lambda line: not run.tries,
        look_up=known,
        most_line_bytes=10_000,
    )
    return run


def test_cancel_at_the_end_of_validation_is_heeded(store: Store) -> None:
    async def scenario() -> None:
        batch = store.cancelled = await made(store, 3)
        run = store.run = run_of(batch, store)
        await finished(run)
        end = await store.fresh(batch)
        assert (end.status, end.done) == ("cancelled", 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_batch_that_is_cancelled_before_it_begins_ends_once_wherever_the_disk_is_full(store: Store, room: int) -> None:
    """Of 600 lines, which are kept in two parts, each has one result."""

    async def scenario() -> None:
        batch = await made(store, 600, anthropic=True, total=600)
        await store.cancel(batch.id, batch.owner, anthropic=True)
        store.room = room
        batch = await store.fresh(batch)
        with pytest.raises(sqlite3.OperationalError):
            await finished(run_of(batch, store))
        await finished(run_of(await store.fresh(batch), store))
        end = await store.fresh(batch)
        assert (end.status, end.done, end.wrong) == ("cancelled", 0, 0)
        results = [json.loads(line) for line in store.path(end, OUTPUT).read_bytes().splitlines()]
        assert [one["result"]["type"] for one in results] == ["canceled"] * 600
        assert {one["custom_id"] for one in results} == {str(number) for number in range(600)}
        assert await store.to_do(batch, 1) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("end", "room"), [("cancelled", 0), ("failed", 1)])
def test_end_before_the_beginning_is_one_where_the_disk_is_full(store: Store, end: str, room: int) -> None:
    async def scenario() -> None:
        batch = await made(store, 3)
        if end == "cancelled":
            await store.cancel(batch.id, batch.owner)
        else:
            store.path(batch, INPUT).write_bytes(b"{nonsense\n")
        store.room = room
        batch = await store.fresh(batch)
        with pytest.raises(sqlite3.OperationalError):
            await finished(run_of(batch, store))
        ended = await store.fresh(batch)
        await finished(run_of(ended, store))
        assert ended.status == end
        assert await store.fresh(batch) == ended
        assert not store.path(batch, INPUT).exists()

    asyncio.run(scenario())


def test_line_that_cannot_be_read_is_read_later(store: Store) -> None:
    async def scenario() -> None:
        batch = await made(store, 5)
        store.unreadable = 2
        await finished(run_of(batch, store))
        end = await store.fresh(batch)
        assert (end.status, end.total, end.done, end.wrong) == ("completed", 5, 5, 0)

    asyncio.run(scenario())


def test_line_whose_work_fails_is_not_lost(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    failures = [RuntimeError("no line is to blame")]

    async def call(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        if failures:
            raise failures.pop()
        return await good(batch, line, body, credential)

    async def scenario() -> None:
        batch = await made(store, 5)
        await finished(run_of(batch, store, call))
        end = await store.fresh(batch)
        assert (end.status, end.total, end.done, end.wrong) == ("completed", 5, 5, 0)
        assert "are run again" in caplog.text

    asyncio.run(scenario())


def test_line_whose_work_fails_after_a_worker_died_with_it_is_not_lost(store: Store) -> None:
    answers: list[LineAnswer | Exception] = [LineAnswer(502, b'{"error": {}}', 0.01, ran=True), RuntimeError("no")]

    async def call(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        if not answers:
            return await good(batch, line, body, credential)
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    async def scenario() -> None:
        batch = await made(store, 1)
        await finished(run_of(batch, store, call))
        end = await store.fresh(batch)
        assert (end.status, end.total, end.done, end.wrong) == ("completed", 1, 1, 0)

    asyncio.run(scenario())


def test_only_the_line_that_kills_workers_is_to_blame(store: Store) -> None:
    """A line ends the worker long before any other has its answer."""
    waiting: list[asyncio.Future[None]] = []
    met: list[int] = []

    async def call(batch: StoredBatch, line: PendingLine, body: bytes, credential: Credential) -> LineAnswer:
        if line.custom_id == "4":
            await asyncio.sleep(0.02)
            met.append(len(waiting))
            while waiting:
                waiting.pop().set_result(None)
            return LineAnswer(502, b'{"error": {}}', 0.05, ran=True)
        waiting.append(died := asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(0.1):
                await died
        except TimeoutError:
            waiting.remove(died)
            return await good(batch, line, body, credential)
        return LineAnswer(502, b'{"error": {}}', 0.05, ran=True)

    async def scenario() -> None:
        batch = await made(store, 12)
        await finished(run_of(batch, store, call))
        end = await store.fresh(batch)
        assert (end.status, end.total, end.done, end.wrong) == ("completed", 12, 11, 1)
        assert len(met) == MOST_ATTEMPTS
        assert met[0] > 0

    asyncio.run(scenario())
