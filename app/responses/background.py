"""Responses that are made without a client: they hold a place in the queue like any other, and end in the store."""

from __future__ import annotations

import asyncio

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
        """Set once it has come to its end, and the store has that."""
        self._queue = queue
        self._ticket = ticket
        self._encoder = encoder
        self._saver = saver
        self._changed = asyncio.Event()

    @property
    def response(self) -> Response:
        """The response now."""
        response = self._encoder.response
        if response.status in ENDS:
            return response
        waits = self._ticket.state is TicketState.WAITING
        return msgspec.structs.replace(response, status="queued" if waits else "in_progress")

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
            await self._save()
            self.saved.set()
            await self._read()
        finally:
            self._queue.cancel(self._ticket)
            await self._save(b"".join(self.events))
            self.saved.set()
            self.ended.set()
            self._record(b"")

    async def _save(self, events: bytes = b"") -> None:
        if not await self._saver.save(self._encoder.response, events):
            self._encoder.unkept()

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
    """All responses in the making, by their ids."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._tasks = Tasks("a response in the background")

    def start(self, run: Run) -> None:
        """Make a response."""
        self._runs[run.response.id] = run
        self._tasks.spawn(self._make(run))

    def get(self, id_: str, owner: str) -> Run | None:
        """The response of that id, if it is still being made and this owner's."""
        run = self._runs.get(id_)
        return run if run is not None and run.owner == owner else None

    async def close(self) -> None:
        """Wait until what has been ended is in the store."""
        await self._tasks.wait()

    async def _make(self, run: Run) -> None:
        try:
            await run.make()
        finally:
            del self._runs[run.response.id]
