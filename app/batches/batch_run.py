"""One batch on its way: its file is looked through, its lines are run as there is room, its results become files."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import msgspec
from anyio import to_thread

from mlx_server.app.batches.batch_store import INPUT, BatchStore
from mlx_server.app.batches.calls import Call, request_id
from mlx_server.app.batches.input_lines import InputLines
from mlx_server.app.batches.model_lines import PAGE, ModelLines
from mlx_server.app.batches.results import not_run, outcome_of
from mlx_server.app.batches.rows import Outcome, PendingLine, StoredBatch
from mlx_server.app.catalog.errors import FleetError
from mlx_server.app.http import errors as http_errors
from mlx_server.app.http.keys import Credential
from mlx_server.app.tasks import Tasks
from mlx_server.queue.errors import QueueClosed
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai.stored.batches import BatchError, WaitingFor, line_decoder
from mlx_server.workers.hub.errors import HubError

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Lines that are read, and kept, between two turns of others."""

MOST_MODELS = 32
"""Models whose lines have their turns at a time; the others' come after those of the first."""

SMALL_BYTES = 1 << 16
MOST_ERRORS = 100
TROUBLE_S = 5.0
"""After so long what the disk refused is tried again."""


class BatchRun:
    """Goes on from wherever an earlier process left it. `credential` gives what its owner is now, None for nobody.

    `changed` is called whenever it might start more lines than before. `may_try` tells whether a line may be run now
    that was with a worker when it died. `look_up` looks for the model of a name, and raises as `Fleet.deployment_of`.
    """

    def __init__(
        self,
        batch: StoredBatch,
        store: BatchStore,
        call: Call,
        credential: Callable[[str], Credential | None],
        changed: Callable[[], None],
        may_try: Callable[[PendingLine], bool],
        look_up: Callable[[str | None], Awaitable[object]],
        most_line_bytes: int,
    ) -> None:
        self.batch = batch
        self.on_their_way: dict[str, PendingLine] = {}
        """Lines that are being answered, by their requests' ids."""
        self.called: dict[str | None, str] = {}
        """The names of the deployments that have answered, by what lines call them: a model has several spellings."""
        self.waiting_for: WaitingFor | None = None
        """Why there are none, as far as that is not its own doing."""
        self._store = store
        self._call = call
        self._credential = credential
        self._changed = changed
        self._may_try = may_try
        self._look_up = look_up
        self._most_line_bytes = most_line_bytes
        self._models: dict[str | None, ModelLines] = {}
        self._to_come: deque[str | None] | None = None
        """Models whose lines have not been read yet; None before it is known which there are."""
        self._suspects: list[tuple[float, int, PendingLine]] = []
        """Lines that were with a worker when it died, by when they may be run again, one at a time: so it shows which
        is to blame."""
        self._suspected: set[int] = set()
        """Their numbers, also of one that is run again."""
        self._numbers = itertools.count()
        self._attempts: dict[int, int] = {}
        self._paused_until = 0.0
        self._outcomes: list[Outcome] = []
        self._keeping = False
        self._committing: set[int] = set()
        self._tasks = Tasks(f"a line of batch {batch.id}")
        self._moved = asyncio.Event()

    @property
    def tries(self) -> bool:
        """Whether a line is on its way that was with a worker when it died."""
        return any(line.line in self._suspected for line in self.on_their_way.values())

    def ready(self) -> Iterator[PendingLine]:
        """The lines of which any may be started next: one of each model."""
        now = asyncio.get_running_loop().time()
        if self.batch.status != "in_progress" or now < self._paused_until or len(self._committing) >= PAGE:
            return
        if self._suspects and self._suspects[0][0] <= now and self._may_try(self._suspects[0][2]):
            yield self._suspects[0][2]
        for lines in self._models.values():
            if (line := lines.first(now)) is not None:
                yield line

    def start(self, line: PendingLine) -> None:
        """Run a line that is ready."""
        if self._suspects and line is self._suspects[0][2]:
            heapq.heappop(self._suspects)
        else:
            self._models[line.model].take()
        self.on_their_way[request_id(self.batch, line)] = line
        self.waiting_for = None
        self._tasks.spawn(self._answer(line))

    def refresh(self, batch: StoredBatch) -> None:
        """Its row has changed."""
        self.batch = batch
        self._moved.set()

    async def run(self) -> None:
        """Bring it to its end. Raises sqlite3.Error or OSError where the disk refuses, and may be run again."""
        try:
            if self._is_unknown:
                await self._validate()
            if self.batch.status == "in_progress":
                await self._work()
        finally:
            await self._tasks.cancel()
            if self._outcomes:
                await self._store.record(self.batch, self._outcomes)
        self.batch = await self._store.fresh(self.batch)
        await self._end()

    @property
    def _is_unknown(self) -> bool:
        """Whether its lines are still to be read: one of Anthropic's has a result for each, also if it is cancelled."""
        batch = self.batch
        untouched = batch.in_progress is None and not batch.output_bytes
        return batch.status == "validating" or (batch.status == "cancelling" and batch.anthropic and untouched)

    async def _validate(self) -> None:
        await self._store.forget_lines(self.batch)
        with self._store.path(self.batch, INPUT).open("rb") as file:
            lines = InputLines(file, self.batch.endpoint, self._most_line_bytes, mixed=self.batch.anthropic)
            errors: list[BatchError] = []
            model: str | None = None
            while read := await to_thread.run_sync(lines.take, AT_ONCE):
                if self.batch.status != "validating" and not self.batch.anthropic:
                    return
                good = [one for one in read if isinstance(one, PendingLine)]
                model = model or next((one.model for one in good), None)
                errors += [one for one in read if isinstance(one, BatchError)]
                errors += await self._store.add_lines(self.batch, good)
                if len(errors) >= MOST_ERRORS:
                    break
        # What it is moved from is what was looked at: it may be refreshed meanwhile.
        if (batch := self.batch).status != "validating":
            return
        found = {"total": lines.count, "model": model}
        unknown = {} if errors else await self._unknown(batch)
        if unknown and not batch.anthropic:
            errors += unknown.values()
        if errors:
            errors = sorted(errors[:MOST_ERRORS], key=lambda error: error.line or 0)
            self.batch = await self._store.move(batch, "failed", errors=msgspec.json.encode(errors), **found)
            return
        await self._store.settle_order(batch)
        self.batch = await self._store.move(batch, "in_progress", unknown=msgspec.json.encode(list(unknown)), **found)

    async def _unknown(self, batch: StoredBatch) -> dict[str | None, BatchError]:
        """The names in it that are no models', and what is wrong with them; while a hub is silent none is."""
        found: dict[str | None, BatchError] = {}
        for model in await self._store.models(batch):
            try:
                with contextlib.suppress(HubError, QueueClosed):
                    await self._look_up(model)
            except (FleetError, InvalidRequest) as error:
                answer = http_errors.of_exception(error)
                found[model] = BatchError(answer.code or answer.type, answer.message, None, "body.model")
        return found

    async def _work(self) -> None:
        """Until all lines are done, or the batch is to end before that."""
        while (batch := self.batch).status == "in_progress":
            await self._read_ahead()
            if self._is_through and not await self._found_more():
                self.batch = await self._store.move(batch, "finalizing")
                return
            left_s = batch.expires - self._store.files.clock()
            if left_s <= 0:
                now = int(self._store.files.clock())
                self.batch = await self._store.move(batch, "finalizing", expired=now)
                return
            self._changed()
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 1.0)):
                    await self._moved.wait()

    @property
    def _is_through(self) -> bool:
        known = self._to_come or self._models or self._suspects or self.on_their_way or self._committing
        return self._to_come is not None and not known

    async def _found_more(self) -> bool:
        """Whether a line was lost on its way, which no failure should do: all that are not done are read again."""
        if not await self._store.to_do(self.batch, 1):
            return False
        log.error("lines of batch %s were lost on their way, and are run again", self.batch.id)
        self._to_come = None
        self._paused_until = asyncio.get_running_loop().time() + TROUBLE_S
        return True

    async def _end(self) -> None:
        """From the state that it has now."""
        batch = self.batch
        if batch.expired is not None or batch.anthropic:
            while rest := await self._store.to_do(batch, AT_ONCE):
                await self._store.record(batch, [not_run(batch, line) for line in rest])
        batch = self.batch = await self._store.fresh(batch)
        match batch.status:
            case "finalizing":
                await self._store.finish(batch, "completed" if batch.expired is None else "expired")
            case "cancelling":
                await self._store.finish(batch, "cancelled")
            case _:
                await self._store.forget_work(batch)
        log.info("batch %s has ended: %d of %d requests completed", batch.id, batch.done, batch.total)

    async def _read_ahead(self) -> None:
        if self._to_come is None:
            self._to_come = deque(await self._store.models(self.batch))
        while self._to_come and len(self._models) < MOST_MODELS:
            self._models[self._to_come.popleft()] = ModelLines()
        for model, lines in list(self._models.items()):
            if lines.is_short:
                lines.add(await self._store.next_of(self.batch, model, lines.last, PAGE))
        self._models = {model: lines for model, lines in self._models.items() if not lines.is_done}

    async def _answer(self, line: PendingLine) -> None:
        try:
            credential = self._credential(self.batch.owner)
            if credential is None:
                self._run_again(line, TROUBLE_S, pause=True)
                return
            # Small ones at once: they reach the queue in their order.
            small = line.size <= SMALL_BYTES
            try:
                body = self._body_of(line) if small else await to_thread.run_sync(self._body_of, line)
            except OSError as error:
                log.warning("line %d of batch %s is tried again: %s", line.line, self.batch.id, error)
                self._run_again(line, TROUBLE_S, pause=True)
                return
            answer = await self._call(self.batch, line, body, credential)
            if answer.model is not None:
                self.called[line.model] = answer.model
            if answer.blames:
                self._attempts[line.line] = self._attempts.get(line.line, 0) + 1
            if answer.shared:
                self._suspected.add(line.line)
            wait_s = answer.again_after_s(self._attempts.get(line.line, 0))
            if answer.no_model and line.model not in msgspec.json.decode(self.batch.unknown):
                wait_s, self.waiting_for = TROUBLE_S, "model"
            if wait_s is not None:
                self._run_again(line, wait_s, pause=not answer.blames)
                return
            self._attempts.pop(line.line, None)
            self._suspected.discard(line.line)
            self._committing.add(line.line)
            self._outcomes.append(outcome_of(self.batch, line, answer))
        finally:
            del self.on_their_way[request_id(self.batch, line)]
            self._moved.set()
            self._changed()
        await self._commit()

    def _run_again(self, line: PendingLine, after_s: float, *, pause: bool) -> None:
        """Put a line back; where it is no line's fault, all others of its model wait as long."""
        at = asyncio.get_running_loop().time() + after_s
        lines = self._models.setdefault(line.model, ModelLines(all_read=True))
        if line.line in self._suspected:
            heapq.heappush(self._suspects, (at, next(self._numbers), line))
        else:
            lines.put_back(line, at)
        if pause:
            lines.paused_until = at

    async def _commit(self) -> None:
        """Keep all outcomes that there are, together, until the disk has them: they count from then on."""
        if self._keeping:
            return
        self._keeping = True
        try:
            while outcomes := list(self._outcomes):
                try:
                    await self._store.record(self.batch, outcomes)
                except (sqlite3.Error, OSError) as error:
                    log.warning("results of batch %s can't be kept, and are tried again: %s", self.batch.id, error)
                    await asyncio.sleep(TROUBLE_S)
                    continue
                del self._outcomes[: len(outcomes)]
                self._committing.difference_update(one.line for one in outcomes)
                self._moved.set()
        finally:
            self._keeping = False

    def _body_of(self, line: PendingLine) -> bytes:
        """A line's request, from the file."""
        descriptor = os.open(self._store.path(self.batch, INPUT), os.O_RDONLY)
        try:
            return bytes(line_decoder.decode(os.pread(descriptor, line.size, line.at)).body)
        finally:
            os.close(descriptor)
