"""`/v1/responses` over a WebSocket: each `response.create` message is a request, answered by its stream's events.

A message goes through the whole application as a request over HTTP does, with key, limits, errors and all. What is not
stored can be gone on from as long as the connection lives.
"""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import msgspec
from starlette.datastructures import Headers
from starlette.types import Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from mlx_server.app.encoders import sse
from mlx_server.app.http.errors import INVALID, SERVER, Answer, of_exception
from mlx_server.app.http.ignored import HEADER as IGNORED
from mlx_server.app.http.in_process import request_body
from mlx_server.app.http.responder import DROPPED
from mlx_server.app.http.services import services
from mlx_server.app.middleware.operator import is_own_origin
from mlx_server.app.responses.response_memory import MEMORY, WARM_UP, ResponseMemory
from mlx_server.schemas.internal.errors import ErrorBody, InvalidRequest
from mlx_server.schemas.openai import responses_socket as schemas
from mlx_server.schemas.openai.responses_events import Error

MAX_CONNECTIONS = 256
POLICY_VIOLATED = 1008
OF_HANDSHAKE = (
    b"connection",
    b"upgrade",
    b"content-length",
    b"transfer-encoding",
    b"idempotency-key",
    b"last-event-id",
)
"""Headers of the handshake that are no request's, beside those of the protocol."""

error_decoder = msgspec.json.Decoder(ErrorBody)
event_decoder = msgspec.json.Decoder(Error)


async def converse(socket: WebSocket) -> None:
    """One connection, from its handshake to its end."""
    refused = refusal(socket)
    if refused is not None:
        await socket.send_denial_response(refused.response(socket.scope))
        return
    connections = services(socket).responses_sockets
    connections.add(socket)
    try:
        await socket.accept()
        await Connection(socket).run()
    finally:
        connections.discard(socket)


def refusal(socket: WebSocket) -> Answer | None:
    """Why a client may not connect."""
    headers = socket.headers
    if not all(is_own_origin(origin, headers.get("host", "")) for origin in headers.getlist("origin")):
        return Answer(403, "permission_error", "Pages of other sites may not connect here.", code="forbidden")
    if len(services(socket).responses_sockets) >= MAX_CONNECTIONS:
        return Answer(503, SERVER, f"{MAX_CONNECTIONS} clients are connected already; come again later.")
    return None


class Connection:
    """Answers messages one after the other. With the client, what is being answered ends, and its place is free."""

    def __init__(self, socket: WebSocket) -> None:
        settings = services(socket).settings
        self._socket = socket
        self._max_bytes = settings.max_body_bytes
        self._memory = ResponseMemory(settings.max_body_bytes)
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting_bytes = 0

    async def run(self) -> None:
        """Until the client leaves."""
        with contextlib.suppress(WebSocketDisconnect):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, tasks.cancel_scope)
                while True:
                    message = await self._waiting.get()
                    self._waiting_bytes -= len(message)
                    await self._answer(message)

    async def _read(self, scope: anyio.CancelScope) -> None:
        """Take in what comes; all that waits together is no larger than one message may be."""
        while (received := await self._socket.receive())["type"] != "websocket.disconnect":
            message = received.get("bytes") or (received.get("text") or "").encode()
            self._waiting_bytes += len(message)
            if self._waiting_bytes > self._max_bytes:
                await self._socket.close(POLICY_VIOLATED, f"More than {self._max_bytes} bytes wait for their turn.")
                break
            self._waiting.put_nowait(message)
        scope.cancel()

    async def _answer(self, message: bytes) -> None:
        try:
            asked = schemas.read(message)
        except InvalidRequest as error:
            await self._socket.send_text(error_event(of_exception(error)))
            return
        if asked is None:
            return
        scope = request_scope(self._socket.scope, {MEMORY: self._memory, WARM_UP: asked.warms_up})
        events = EventSender(self._socket, asked.stream_id)
        await self._socket.app(scope, request_body(asked.body), events.send)


class EventSender:
    """Sends as messages of a socket what an application sends as an answer over HTTP."""

    def __init__(self, socket: WebSocket, stream_id: str | None) -> None:
        self._socket = socket
        self._stream_id = stream_id
        self._status = 0
        self._headers = Headers()
        self._refusal = b""

    async def send(self, message: Message) -> None:
        """Part of ASGI."""
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], Headers(raw=list(message["headers"]))
            if notes := schemas.notes(self._headers.get(IGNORED), self._headers.get(DROPPED)):
                await self._send(msgspec.json.encode(notes))
        elif self._status == 200:
            for event in sse.split(message.get("body", b"")):
                await self._send(data_of(event))
        else:
            self._refusal += message.get("body", b"")
            if not message.get("more_body"):
                retry = self._headers.get("retry-after")
                await self._send(refusal_event(self._status, self._refusal, {"Retry-After": retry} if retry else None))

    async def _send(self, event: bytes) -> None:
        if self._stream_id is not None:
            event = event[:-1] + b',"stream_id":' + msgspec.json.encode(self._stream_id) + b"}"
        await self._socket.send_text(event.decode())


def request_scope(handshake: Scope, more: Scope) -> Scope:
    """A request over HTTP by whoever made the handshake."""
    headers = [
        (name, value)
        for name, value in handshake["headers"]
        if name not in OF_HANDSHAKE and not name.startswith(b"sec-websocket-")
    ]
    names = ("asgi", "http_version", "server", "client", "root_path", "path", "raw_path", "query_string", "state")
    copied = {name: handshake[name] for name in names if name in handshake}
    return {**copied, "type": "http", "method": "POST", "scheme": "http", "headers": headers, **more}


def data_of(event: bytes) -> bytes:
    """The JSON of a server-sent event; an error has here what it has in a refusal, too."""
    name, data = event.removesuffix(b"\n\n").split(b"\n", 1)
    data = data.removeprefix(b"data: ")
    return in_stream(event_decoder.decode(data)) if name == b"event: error" else data


def in_stream(error: Error) -> bytes:
    """A failure after the stream has begun."""
    kind = INVALID if error.param else SERVER
    return msgspec.json.encode(
        schemas.SocketError(
            schemas.ErrorDetail(kind, error.code, error.message, error.param), sequence_number=error.sequence_number
        )
    )


def refusal_event(status: int, body: bytes, headers: dict[str, str] | None) -> bytes:
    """A refusal over HTTP as an event."""
    error = error_decoder.decode(body).error
    detail = schemas.ErrorDetail(error.type, error.code, error.message, error.param, headers or msgspec.UNSET)
    return msgspec.json.encode(schemas.SocketError(detail, status=status))


def error_event(answer: Answer) -> str:
    """A refusal of what is no request."""
    return refusal_event(answer.status, answer.body(), None).decode()
