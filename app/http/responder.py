"""The one loop that answers: it reads a ticket's mailbox and has an encoder write the events in an API's words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import anyio
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from mlx_server.app.http import errors
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.http.keepalive import Keepalive
from mlx_server.app.http.prompt_cache import prompt_cache_header
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import Event, Failed, Finished, Part, Started
from mlx_server.schemas.internal.progress import PromptProgress

EVENTS = "mlx_server.events"
"""Set in the scope of an answer that is a stream of whole events, if it is none that went wrong."""

DROPPED = "X-Dropped-Messages"
"""How many of the oldest messages were left out of the prompt, as the request allows it."""


class Encoder(Protocol):
    """Writes events in one API's words. `begin`, `events` and `end` make a stream, `whole` makes one answer."""

    def begin(self, started: Started | None = None) -> bytes:
        """What comes before the first text; `started` if the request wanted it."""

    def alive(self, progress: PromptProgress | None) -> bytes:
        """What says in the stream that the answer is on its way, and how far its prompt is if that is to be told."""

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
        """Called once at the end, on success and on failure."""

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

    Nothing is sent before the first event, so that a refusal is a status code and a lost worker can be replaced: but
    a stream with `keepalive` begins when a keep-alive is due, and a refusal after that is an event of it. Keep-alives
    hold no part of an answer, so a worker that is lost meanwhile is replaced all the same. `ignored` are the fields
    that nobody knows. `keep` is given the answer's last bytes before they are sent, and returns them as they are to be
    sent: who has all of the answer can count on what `keep` does.
    """

    def __init__(
        self,
        queue: Dispatcher,
        ticket: Ticket,
        encoder: Encoder,
        keepalive: Keepalive | None,
        *,
        ignored: Sequence[str] = (),
        keep: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        """`keepalive` is None for an answer in one piece."""
        self._queue = queue
        self._ticket = ticket
        self._encoder = encoder
        self._keepalive = keepalive
        self._ignored = ignored
        self._keep = keep
        self._has_head = self._has_begun = False

    def leave(self) -> None:
        """Free the place, if it is still held."""
        self._queue.cancel(self._ticket)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A refusal, the stream, or the whole answer."""
        keepalive = self._keepalive
        scope[EVENTS] = keepalive is not None
        record_of(scope).ticket = self._ticket
        unread = await self._ticket.mailbox.get() if keepalive is None else await self._first(send, keepalive)
        events, failed = sort(unread)
        if failed is not None and not self._has_head and (not events or keepalive is None):
            await errors.of_failure(failed).response(scope)(scope, receive, send)
        elif keepalive is not None:
            await self._send_stream(scope, send, keepalive, events, failed)
        else:
            body = await self._kept(self._encoder.whole(events))
            await send(start_of("application/json", {"Content-Length": str(len(body)), **self._headers()}))
            await send({"type": "http.response.body", "body": body})

    async def _first(self, send: Send, keepalive: Keepalive) -> list[Event]:
        """The first events of a stream, and until they come, keep-alives."""
        while (unread := await within(keepalive.interval_s, self._ticket.mailbox.get)) is None:
            new_progress = keepalive.new_progress()
            if new_progress is not None or keepalive.due:
                begun = self._beginning()
                event = self._encoder.alive(new_progress) if new_progress is not None or not begun else b""
                await self._send(send, begun + event)
                keepalive.sent()
        return unread

    async def _send_stream(
        self, scope: Scope, send: Send, keepalive: Keepalive, events: list[Part | Finished], failed: Failed | None
    ) -> None:
        part = b""
        if events:
            self._ticket.sent = True
            part = self._beginning(counted=True) + self._encoder.events(events)
        while failed is None:
            if part:
                keepalive.sent()
            elif keepalive.due:  # tokens arrive, but none of their text can be sent yet
                part = self._encoder.alive(None)
                keepalive.sent()
            await self._send(send, part)
            unread = await self._ticket.mailbox.get()
            if not unread:
                await self._send(send, await self._kept(self._encoder.end()), more=False)
                return
            events, failed = sort(unread)
            part = self._encoder.events(events)
        # The status line is long gone: an error event, and no [DONE], is the honest end.
        answer = errors.of_failure(failed)
        answer.note(scope)
        part += await self._kept(self._encoder.error(answer))
        await self._send(send, part, more=False)

    def _beginning(self, *, counted: bool = False) -> bytes:
        """What comes before the first text, once. It may have to wait until the prompt is `counted`."""
        request, prepared = self._ticket.request, self._ticket.prepared
        started = self._ticket.started
        if prepared is not None:  # a request's prompts in all, where `started` counts one
            started = Started(self._ticket.id, 0, prepared.prompt_tokens, started.cached_tokens if started else 0)
        waits = isinstance(request, GenerationRequest) and request.announce and started is None and not counted
        if self._has_begun or waits:
            return b""
        self._has_begun = True
        return self._encoder.begin(started)

    async def _send(self, send: Send, data: bytes, *, more: bool = True) -> None:
        """More of the stream, after its head."""
        if not self._has_head:
            self._has_head = True
            await send(start_of_stream(self._headers()))
        await send({"type": "http.response.body", "body": data, "more_body": more})

    def _headers(self) -> dict[str, str]:
        """Headers for ignored fields, dropped messages and a prompt too large to be cached, as far as known by now."""
        dropped = self._ticket.dropped_messages
        dropped_header = {DROPPED: str(dropped)} if dropped else {}
        ignored = ignored_header((*self._ignored, *self._ticket.ignored))
        return ignored | dropped_header | prompt_cache_header(self._ticket.prefix_shortage)

    async def _kept(self, last: bytes) -> bytes:
        return last if self._keep is None else await self._keep(last)


async def within(seconds: float | None, read: Callable[[], Awaitable[list[Event]]]) -> list[Event] | None:
    """The events that were read; None after a timeout in seconds."""
    if seconds is None:
        return await read()
    with anyio.move_on_after(seconds):
        return await read()
    return None


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
