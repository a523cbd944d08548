"""The one loop that answers: it reads a ticket's mailbox and lets an encoder say it in an API's words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import anyio
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from mlx_server.app import errors
from mlx_server.app.ignored import ignored_header
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.messages import Event, Failed, Finished, Part, Started

DROPPED = "X-Dropped-Messages"
"""How many of the oldest messages were left out of the prompt, as the request allows it."""


class Encoder(Protocol):
    """An API's way to say what happens. `begin`, `events` and `end` make a stream, `whole` makes one answer."""

    def begin(self, started: Started | None = None) -> bytes:
        """What comes before the first text; `started` if the request wanted it."""

    def events(self, events: list[Part | Finished]) -> bytes:
        """What these events are in the stream; one server-sent event for each part, or more."""

    def end(self) -> bytes:
        """What comes after everything went well."""

    def whole(self, events: list[Part | Finished]) -> bytes:
        """The answer in one piece; neighbouring parts of the same kind have been joined."""

    def error(self, answer: errors.Answer) -> bytes:
        """What tells of a failure after the stream has begun; nothing follows it."""


class WatchedResponse:
    """An answer that ends as soon as its client has left."""

    @abstractmethod
    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it; cancelled when the client has left."""

    def leave(self) -> None:
        """Called at the end, whatever it was."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as an ASGI application."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._leave_with_client, receive, tasks.cancel_scope)
                await self.answer(scope, receive, send)
                tasks.cancel_scope.cancel()
        finally:
            self.leave()

    async def _leave_with_client(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


class GenerationResponse(WatchedResponse):
    """Answers one ticket. Whoever leaves before the end frees its place: at once, whatever the answer was doing.

    Nothing is sent before the first event, so that a refusal is a status code and a lost worker can be replaced.
    `ignored` are the fields that nobody knows. `keep` is awaited before the answer's last byte is sent: who has all of
    it can count on what `keep` does.
    """

    def __init__(
        self,
        queue: Dispatcher,
        ticket: Ticket,
        encoder: Encoder,
        *,
        stream: bool,
        ignored: Sequence[str] = (),
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._queue = queue
        self._ticket = ticket
        self._encoder = encoder
        self._stream = stream
        self._ignored = ignored
        self._keep = keep

    def leave(self) -> None:
        """Free the place, if it is still held."""
        self._queue.cancel(self._ticket)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A refusal, the stream, or the whole answer."""
        events, failed = sort(await self._ticket.mailbox.get())
        if failed is not None and (not events or not self._stream):
            await errors.of_failure(failed).response(scope)(scope, receive, send)
        elif self._stream:
            self._ticket.sent = True
            await self._send_stream(send, events, failed)
        else:
            body = self._encoder.whole(events)
            await self._kept()
            await send(start_of("application/json", {"Content-Length": str(len(body)), **self._headers()}))
            await send({"type": "http.response.body", "body": body})

    async def _send_stream(self, send: Send, events: list[Part | Finished], failed: Failed | None) -> None:
        await send(start_of_stream(self._headers()))
        part = self._encoder.begin(self._ticket.started) + self._encoder.events(events)
        while failed is None:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            unread = await self._ticket.mailbox.get()
            if not unread:
                part = self._encoder.end()
                await self._kept()
                await send({"type": "http.response.body", "body": part})
                return
            events, failed = sort(unread)
            part = self._encoder.events(events)
        # The status line is long gone: an error event, and no [DONE], is the honest end.
        part += self._encoder.error(errors.of_failure(failed))
        await self._kept()
        await send({"type": "http.response.body", "body": part})

    def _headers(self) -> dict[str, str]:
        """What of the request changed nothing, and what was left out of it, as far as that is known by now."""
        dropped = self._ticket.dropped_messages
        told = {DROPPED: str(dropped)} if dropped else {}
        return {**ignored_header((*self._ignored, *self._ticket.ignored)), **told}

    async def _kept(self) -> None:
        if self._keep is not None:
            await self._keep()


def start_of(content_type: str, more: Mapping[str, str]) -> Message:
    """The head of an answer that goes well."""
    headers = MutableHeaders(headers={"Content-Type": content_type, **more})
    return {"type": "http.response.start", "status": 200, "headers": headers.raw}


def start_of_stream(more: Mapping[str, str]) -> Message:
    """The head of a stream."""
    return start_of("text/event-stream; charset=utf-8", {"Cache-Control": "no-cache", **more})


def sort(events: list[Event]) -> tuple[list[Part | Finished], Failed | None]:
    """The events that an encoder knows, and the failure that may stand at their end."""
    failed = next((event for event in events if isinstance(event, Failed)), None)
    return [event for event in events if isinstance(event, Part | Finished)], failed
