"""Responses that are made without a client: they hold a place in the queue like any other, and end in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import anyio
import msgspec

from mlx_server.app.encoders import sse
from mlx_server.app.encoders.openai_responses import ResponsesEncoder
from mlx_server.app.http import errors
from mlx_server.app.http.responder import sort
from mlx_server.app.responses.response_records import ResponseSaver
from mlx_server.app.tasks import Tasks
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.openai.responses_answer import ENDS, Response
from mlx_server.schemas.openai.responses_items import Item

RETRY_S = 5.0
"""After so long what the store refused is tried again."""
UNKEPT_S = 3600.0
MOST_UNKEPT = 64
"""For so long so many responses that the store refuses are known all the same."""


class Save(Protocol):
    """Has the store keep a response; tells whether it could be kept."""

    def __call__(self, response: Response, events: bytes, *, known: bool) -> Awaitable[bool]:
        """`known`: it was kept before."""


class Run:
    """One response in the making. If it is `streamed`, its events can be read at any time, by anybody, again."""

    def __init__(
        self, queue: Dispatcher, ticket: Ticket, encoder: ResponsesEncoder, saver: ResponseSaver, *, streamed: bool
    ) -> None:
        self.owner = saver.owner
        self.streamed = streamed
        self.events: list[bytes] = []
        """By their numbers."""
        self.saved = asyncio.Event()
        """Set once the store knows of it."""
        self.ended = asyncio.Event()
        """Set once it has come to its end, and the store has that or has refused it."""
        self.kept = False
        """The store has it as it is at its end."""
        self._queue = queue
        self._ticket = ticket
        self._encoder = encoder
        self._saver = saver
        self._known = False
        """The store has it as it was when it began."""
        self._changed = asyncio.Event()

    @property
    def response(self) -> Response:
        """The response now."""
        response = self._encoder.response
        if response.status in ENDS:
            return response
        waits = self._ticket.state is TicketState.WAITING
        return msgspec.structs.replace(response, status="queued" if waits else "in_progress")

    @property
    def said(self) -> tuple[Item, ...]:
        """All that was said up to the response and in it."""
        return self._saver.said(self._encoder.response)

    def cancel(self) -> None:
        """Take it back: its place is free at once. Idempotent, and nothing once it has ended."""
        self._queue.cancel(self._ticket)

    async def more_than(self, seen: int) -> bool:
        """Wait for more events than were seen; False if there will be none."""
        while len(self.events) <= seen and not self.ended.is_set():
            await self._changed.wait()
        return len(self.events) > seen

    async def make(self) -> None:
        """Make it, from the first event to the store."""
        try:
            self._record(self._encoder.begin())
            self._known = await self._save(self._saver.save)
            self.saved.set()
            await self._read()
        finally:
            self._queue.cancel(self._ticket)
            self.kept = await self._save(self._saver.save, b"".join(self.events))
            self.saved.set()
            self.ended.set()
            self._record(b"")

    async def keep(self) -> bool:
        """Try again to have it in the store, once it has ended; tells whether it is there."""
        self.kept = await self._save(self._saver.keep, b"".join(self.events))
        return self.kept

    async def _save(self, save: Save, events: bytes = b"") -> bool:
        response = msgspec.structs.replace(self._encoder.response, store=True)
        if kept := await save(response, events, known=self._known):
            self._encoder.response = response
        else:
            self._encoder.unkept()
        return kept

    async def _read(self) -> None:
        while unread := await self._ticket.mailbox.get():
            self._ticket.sent = True
            events, failed = sort(unread)
            self._record(self._encoder.events(events))
            if failed is not None:
                self._record(self._encoder.error(errors.of_failure(failed)))
                return
        cancelled = self._ticket.state is TicketState.CANCELLED
        self._record(self._encoder.cancelled() if cancelled else self._encoder.end())

    def _record(self, data: bytes) -> None:
        if self.streamed:
            self.events += sse.split(data)
        self._changed.set()
        self._changed = asyncio.Event()


class BackgroundRuns:
    """All responses in the making, and those that the store refuses, which are tried again every `retry_s` seconds."""

    def __init__(self, retry_s: float = RETRY_S) -> None:
        self._retry_s = retry_s
        self._runs: dict[str, Run] = {}
        """By their ids."""
        self._unkept: dict[Run, float] = {}
        """Until when they are known, from the one on whose last try is longest ago."""
        self._keeper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._tasks = Tasks("a response in the background")

    def start(self, run: Run) -> None:
        """Make a response."""
        self._runs[run.response.id] = run
        self._tasks.spawn(self._make(run))

    def get(self, id_: str, owner: str) -> Run | None:
        """The response of that id, if it is still being made, or refused by the store, and this owner's."""
        run = self._runs.get(id_)
        return run if run is not None and run.owner == owner else None

    def forget(self, run: Run) -> None:
        """It is not tried again, and only the store may know it. Idempotent."""
        self._runs.pop(run.response.id, None)
        self._unkept.pop(run, None)

    async def close(self) -> None:
        """Wait until what has been ended is in the store, or has been refused once more."""
        self._closing.set()
        await self._tasks.wait()

    async def _make(self, run: Run) -> None:
        try:
            await run.make()
        finally:
            if run.kept or run.response.status not in ENDS or self._closing.is_set():
                self.forget(run)
            else:
                self._hold(run)

    def _hold(self, run: Run) -> None:
        self._unkept[run] = asyncio.get_running_loop().time() + UNKEPT_S
        if self._keeper is None or self._keeper.done():
            self._keeper = self._tasks.spawn(self._keep())
        if len(self._unkept) > MOST_UNKEPT:
            self.forget(next(iter(self._unkept)))

    async def _keep(self) -> None:
        """Have the store take what it refused, until it has all."""
        while self._unkept and not self._closing.is_set():
            with anyio.move_on_after(self._retry_s):
                await self._closing.wait()
            for run, until in list(self._unkept.items()):
                if run not in self._unkept:
                    continue
                if await run.keep() or asyncio.get_running_loop().time() > until:
                    self.forget(run)
                elif self._unkept.pop(run, None) is not None:
                    self._unkept[run] = until
                    break
