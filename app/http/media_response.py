"""Answers that hold what was heard, said or drawn: in one piece, as events, or as the bytes of a sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from mlx_server.app.http import errors
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.responder import EVENTS, WatchedResponse, start_of, start_of_stream, within
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.messages import Event, Failed, Finished, Result

ALIVE = b": still at it\n\n"
"""A comment in a stream of events: SDKs pass over it."""


class MediaEncoder(Protocol):
    """An API's way to tell results. `events` and `end` make a stream, `whole` makes one answer."""

    @property
    def media_type(self) -> str:
        """What the answer in one piece, or a stream of bytes, is."""

    def events(self, events: Iterable[Result | Finished]) -> bytes:
        """What these events are in the stream."""

    def end(self) -> bytes:
        """What comes after everything went well."""

    def whole(self, events: Sequence[Result | Finished]) -> bytes:
        """The answer in one piece."""

    def error(self, answer: errors.Answer) -> bytes:
        """What tells of a failure after a stream of events has begun; nothing follows it."""


class MediaResponse(WatchedResponse):
    """Answers one ticket. Whoever leaves before the end frees its place, at once, and `release` is called then.

    Nothing is sent before the first result, so that a refusal is a status code and a lost worker can be replaced; but a
    stream of events begins when it has been silent for `keepalive_s` seconds (0: never). A stream of bytes that fails
    later is cut off: nothing in it could say why.
    """

    def __init__(
        self,
        queue: Dispatcher,
        ticket: Ticket,
        encoder: MediaEncoder,
        *,
        stream: bool,
        as_events: bool = True,
        keepalive_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        self._queue = queue
        self._ticket = ticket
        self._encoder = encoder
        self._stream = stream
        self._as_events = as_events
        self._keepalive_s = keepalive_s if as_events else 0.0
        self._headers = dict(headers or {})
        self._release = release
        self._has_head = False

    def leave(self) -> None:
        """Free the place, if it is still held, and what the request brought."""
        self._queue.cancel(self._ticket)
        if self._release is not None:
            self._release()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A refusal, the stream, or the whole answer."""
        record_of(scope).ticket = self._ticket
        scope[EVENTS] = self._stream and self._as_events
        if self._stream:
            await self._answer_stream(scope, receive, send)
            return
        events, failed = results_of(await self._ticket.mailbox.get())
        if failed is not None:
            await errors.of_failure(failed).response(scope)(scope, receive, send)
            return
        body = self._encoder.whole(events)
        await send(start_of(self._encoder.media_type, {"Content-Length": str(len(body)), **self._headers}))
        await send({"type": "http.response.body", "body": body})

    async def _answer_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        while unread := await self._next(send):
            events, failed = results_of(unread)
            data = self._encoder.events(events) if events else b""
            if failed is not None and not data and not self._has_head:
                await errors.of_failure(failed).response(scope)(scope, receive, send)
                return
            if data:
                self._ticket.sent = True
                await self._send(send, data)
            if failed is not None:
                answer = errors.of_failure(failed)
                answer.note(scope)
                if self._as_events:
                    await self._send(send, self._encoder.error(answer), more=False)
                return
        await self._send(send, self._encoder.end(), more=False)

    async def _next(self, send: Send) -> list[Event]:
        """The next events; none after the last. Until they come, a stream of events is kept alive."""
        while (unread := await within(self._keepalive_s or None, self._ticket.mailbox.get)) is None:
            await self._send(send, ALIVE)
        return unread

    async def _send(self, send: Send, data: bytes, *, more: bool = True) -> None:
        """More of the stream, after its head."""
        if not self._has_head:
            self._has_head = True
            head = (
                start_of_stream(self._headers) if self._as_events else start_of(self._encoder.media_type, self._headers)
            )
            await send(head)
        if data or not more:
            await send({"type": "http.response.body", "body": data, "more_body": more})


def results_of(events: Sequence[Event]) -> tuple[list[Result | Finished], Failed | None]:
    """The events that an encoder knows, and the failure that may stand at their end."""
    failed = next((event for event in events if isinstance(event, Failed)), None)
    return [event for event in events if isinstance(event, Result | Finished)], failed
