"""All batches of a server, from its start to its end; of several servers that share a data directory one runs them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mlx_server.app.batches.batch_run import TROUBLE_S, BatchRun
from mlx_server.app.batches.batch_store import BatchGone, BatchStore
from mlx_server.app.batches.calls import Call
from mlx_server.app.batches.room import free_places, is_loaded, name_of, rest_s
from mlx_server.app.batches.rows import UNFINISHED, PendingLine, StoredBatch
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.keys import Credential
from mlx_server.app.tasks import Tasks
from mlx_server.schemas.openai.stored.batches import WaitingFor

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is looked for room that no line has left: a model has been loaded, or has more rows."""

LOCK_S = 1.0
LOOK_FOR_S = 2.0
DAY_S = 86_400.0
KEPT_S = 30 * DAY_S
"""How long a batch is known after its end."""


class BatchRunner:
    """Gives room to batches in turns, a line at a time. What is running at the end goes on with the next server."""

    def __init__(
        self,
        store: BatchStore,
        fleet: Fleet,
        call: Call,
        credential: Callable[[str], Credential | None],
        most_line_bytes: int,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._call = call
        self._credential = credential
        self._most_line_bytes = most_line_bytes
        self._runs: dict[int, BatchRun] = {}
        self._tasks = Tasks("a batch")
        self._wake = asyncio.Event()
        self._lock: int | None = None
        self._look_again: dict[str, float] = {}
        """When it is looked again whether there is memory for a model, by the event loop's clock."""

    def start(self) -> None:
        """Go on with what there is."""
        self._tasks.spawn(self._run())

    async def close(self) -> None:
        """Leave all as it is: what has counted is kept."""
        await self._tasks.cancel()
        if self._lock is not None:
            os.close(self._lock)

    async def look_at(self, batch: StoredBatch) -> None:
        """A batch is new, or is to end."""
        with contextlib.suppress(BatchGone):  # then it had ended
            fresh = await self._store.fresh(batch)
            if (run := self._runs.get(batch.number)) is not None:
                run.refresh(fresh)
            elif self._lock is not None and fresh.status in UNFINISHED:
                self._begin(fresh)

    def waiting_for(self, batch: StoredBatch) -> WaitingFor | None:
        """Why no line of a batch runs; None if some do, or if another server runs it."""
        run = self._runs.get(batch.number)
        return None if run is None or run.on_their_way or batch.status != "in_progress" else run.waiting_for

    async def _run(self) -> None:
        await self._take_lock()
        self._tasks.spawn(self._sweep())
        self._tasks.spawn(self._look_for_work())
        while True:
            self._wake.clear()
            try:
                await self._fill()
            except Exception:  # every batch would stand still until the next start
                log.exception("batches go on in %.0f s", TROUBLE_S)
                await asyncio.sleep(TROUBLE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()

    async def _take_lock(self) -> None:
        """Wait until no other server runs the batches."""
        while self._lock is None:
            try:
                self._lock = taken(self._store.folder / "lock")
                wait_s = LOCK_S
            except OSError as error:
                log.warning("batches can't be run yet: %s", error)
                wait_s = TROUBLE_S
            if self._lock is None:
                await asyncio.sleep(wait_s)

    async def _sweep(self) -> None:
        """Every day, forget what ended long ago and what was left behind."""
        while True:
            try:
                await self._store.drop_old(self._store.files.clock() - KEPT_S)
                await self._store.drop_strays(time.time() - DAY_S)
            except (sqlite3.Error, OSError) as error:
                log.warning("old batches can't be deleted: %s", error)
            await asyncio.sleep(DAY_S)

    async def _look_for_work(self) -> None:
        """Also what another server was asked for that shares the data directory."""
        while True:
            try:
                for batch in await self._store.unfinished():
                    await self.look_at(batch)
            except (sqlite3.Error, OSError) as error:
                log.warning("it can't be looked for batches: %s", error)
            await asyncio.sleep(LOOK_FOR_S)

    def _begin(self, batch: StoredBatch) -> None:
        if batch.number not in self._runs:
            self._runs[batch.number] = run = BatchRun(
                batch,
                self._store,
                self._call,
                self._credential,
                self._wake.set,
                self._may_try,
                self._fleet.deployment_of,
                self._most_line_bytes,
            )
            self._tasks.spawn(self._finish(run))

    async def _finish(self, run: BatchRun) -> None:
        try:
            await run.run()
        except BatchGone:
            return
        except (sqlite3.Error, OSError) as error:
            log.warning("batch %s is tried again: %s", run.batch.id, error)
            await asyncio.sleep(TROUBLE_S)
        else:
            return
        finally:
            del self._runs[run.batch.number]
        # Where this fails too, it is found as any that has not ended.
        with contextlib.suppress(BatchGone, sqlite3.Error, OSError):
            self._begin(await self._store.fresh(run.batch))

    async def _fill(self) -> None:
        """Start lines as far as there is room, each batch in its turn."""
        rest = rest_s(self._fleet.settings.batch_hours, datetime.now(UTC).astimezone().time())
        if rest is None:
            for run in self._runs.values():
                run.waiting_for = "hours"
            return
        room = await self._room(rest)
        turns = deque(self._runs.values())
        while turns:
            run = turns.popleft()
            ready = [(line, self._deployment_of(run, line.model)) for line in run.ready()]
            for line, deployment in ready:
                if room[name := name_of(deployment, line.model)] > 0:
                    room[name] -= 1
                    run.start(line)
                    turns.append(run)
                    # The others come first the next time.
                    self._runs[run.batch.number] = self._runs.pop(run.batch.number)
                    break
            else:
                if ready:
                    run.waiting_for = "turn" if any(is_loaded(deployment) for _, deployment in ready) else "model"

    async def _room(self, rest: float) -> Counter[str]:
        """How many more lines may be sent to which models; of those that are not loaded one is had loaded at a time."""
        room: Counter[str] = Counter()
        loads = False
        for run in list(self._runs.values()):
            for line in list(run.ready()):
                deployment = self._deployment_of(run, line.model)
                name = name_of(deployment, line.model)
                if name not in room and (is_loaded(deployment) or not loads):
                    room[name] = await self._room_for(name, deployment, rest)
                    loads |= room[name] > 0 and not is_loaded(deployment)
        return room

    async def _room_for(self, name: str, deployment: Deployment | None, rest: float) -> int:
        """How many more lines may be sent to a model, which the first has loaded once there is memory for it."""
        places = free_places(deployment, self._on_their_way()[name])
        if places <= 0 or is_loaded(deployment):
            return places
        now = asyncio.get_running_loop().time()
        if now < self._look_again.get(name, 0.0):
            return 0
        try:
            spare = await self._fleet.has_spare(name, rest)
        except Exception:  # a line is sent all the same, and told why
            log.exception("it can't be found out whether there is memory for %s", name)
            spare = True
        if spare:
            return places
        self._look_again[name] = now + LOOK_S
        return 0

    def _may_try(self, line: PendingLine) -> bool:
        """Whether a line that may kill workers is run now: one at a time, and none while a model would be given up."""
        deployment = self._fleet.known(line.model)
        return not any(run.tries for run in self._runs.values()) and (deployment is None or deployment.steady)

    def _deployment_of(self, run: BatchRun, model: str | None) -> Deployment | None:
        """The model that lines of a batch call so, as far as it is known without looking for it."""
        return self._fleet.known(run.called.get(model, model))

    def _on_their_way(self) -> Counter[str]:
        """Lines that are being answered, by the names of their models' deployments."""
        counts: Counter[str] = Counter()
        for run in self._runs.values():
            for model, lines in Counter(line.model for line in run.on_their_way.values()).items():
                counts[name_of(self._deployment_of(run, model), model)] += lines
        return counts


def taken(path: Path) -> int | None:
    """A descriptor whose file is locked for this process alone, whatever becomes of it; None if another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
