"""uvicorn's HTTP protocol with what it lacks: a limit on heads, refusals in the one error shape, an end of patience
with those who don't read or don't send, and answers to those who have said all that they have to say."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from mlx_server.app.http.errors import INVALID, Answer
from mlx_server.app.http.responder import EVENTS
from mlx_server.app.middleware.request_id import HEADER

MAX_HEAD_BYTES = 1 << 16

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Says nothing, and may be said to any client of HTTP/1.1 before its answer (RFC 9110, 15.2)."""

COMMENT = b"3\r\n:\n\n\r\n"
"""Says nothing either, as a chunk between two events of a stream."""

FIRST_PROBE_S = 0.02
LONGEST_PROBE_S = 10.0
"""How long after the first thing that was said to a silent client the next is, and how long it is at most."""

SOCKET_IO = b"/socket.io/"
RESPONSES = b"/v1/responses"
"""WebSockets are spoken below the one path and at the other."""

log = logging.getLogger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    # Slots, because one attribute more than 30 costs an instance the keys that it shares with others: 1.5 KB each.
    __slots__ = ("_awaited", "_head_bytes", "_head_only", "_heard_at", "_in_head", "_probe", "_stalled")

    STALL_S = 60.0
    """How long a client may read nothing from a full connection before it counts as gone, in seconds."""

    SEND_S = 60.0
    """How long a client may take to send a head, and how long it may send nothing of a body, in seconds."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._in_head = True
        # The data at hand is nothing but a part of a head.
        self._head_only = True
        self._stalled: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None
        # Runs while a request is not all here.
        self._awaited: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        self._await_request()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn's always closes
        """Called by the loop when the client will send nothing more. It may have left, or wait for its answer: the end
        of its side looks the same. Who has left refuses what is sent, so something is, now and then, that means nothing
        to the others."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body or cycle.scope["http_version"] != "1.1":
            return None
        cycle.keep_alive = False
        if self._probe is None:
            self._look_whether_there(FIRST_PROBE_S)
        return True

    def pause_writing(self) -> None:
        """Called by the transport when the client does not keep up. One timer here spares every write its own."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Called by the transport when the client has read enough."""
        super().resume_writing()
        self._forget_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._forget_stall()
        self._forget_request()
        if self._probe is not None:
            self._probe.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the loop. The head is bounded before anybody has shown a key."""
        self._head_only = self._in_head
        super().data_received(data)
        if not self._head_only:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._await_request()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_head = self._head_only = False
        self._heard_at = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser for a piece."""
        self._heard_at = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser; the next head may follow on the same connection."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0
        self._forget_request()

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP."""
        self._refuse(400, msg)

    def _look_whether_there(self, wait_s: float) -> None:
        cycle = self.cycle
        if cycle.response_complete or self.transport.is_closing():
            return
        # A client that does not read is watched otherwise, and what stands before the last answer is written anyway.
        if not self.flow.write_paused and not self.pipeline:
            if not cycle.response_started:
                self.transport.write(CONTINUE)
            elif cycle.chunked_encoding and cycle.scope.get(EVENTS):
                self.transport.write(COMMENT)
        self._probe = self.loop.call_later(wait_s, self._look_whether_there, min(2 * wait_s, LONGEST_PROBE_S))

    def _await_request(self) -> None:
        self._forget_request()
        self._heard_at = self.loop.time()
        self._awaited = self.loop.call_later(self.SEND_S, self._look_for_request)

    def _forget_request(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None

    def _look_for_request(self) -> None:
        cycle = self.cycle
        wait_s = self._heard_at + self.SEND_S - self.loop.time()
        if self.flow.read_paused or (cycle is not None and not cycle.response_complete and not cycle.more_body):
            wait_s = self.SEND_S  # it is not the client who is late, or an earlier request is not answered yet
        said_nothing = cycle is None and not self._head_bytes
        if wait_s > 0:
            self._awaited = self.loop.call_later(wait_s, self._look_for_request)
        elif said_nothing or (not self._in_head and cycle.response_started):
            self.transport.close()
        else:
            part = "head" if self._in_head else "body"
            self._refuse(408, f"The rest of the request's {part} did not come within {self.SEND_S:g} seconds.")

    def _watch(self) -> None:
        self._forget_stall()
        unread = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self.STALL_S, self._look_again, unread)

    def _look_again(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() < unread:
            self._watch()
            return
        log.info("request %s was given up: its client does not read", self.scope.get("request_id"))
        self.transport.abort()

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, status: int, message: str) -> None:
        body = Answer(status, INVALID, message).body()
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"{HEADER.lower()}: {uuid.uuid4().hex}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """Called for a client that wants a WebSocket. Few do, so what speaks it is imported for the first one."""
        from mlx_server.app.server.websocket import WebSocketProtocol

        self._forget_stall()
        self._forget_request()
        self.ws_protocol_class = WebSocketProtocol
        super().handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        spoken = self.url.startswith(SOCKET_IO) or self.url.partition(b"?")[0] == RESPONSES
        return spoken and self._get_upgrade() == b"websocket"

    def _unsupported_upgrade_warning(self) -> None:
        log.debug("an upgrade to another protocol was asked for and not given")
