"""uvicorn's HTTP protocol with what it lacks: a limit on heads, refusals in the one error shape, a way to hang up."""

from __future__ import annotations

import logging
import uuid

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlx_server.app.errors import INVALID, Answer
from mlx_server.app.middleware.request_id import HEADER

MAX_HEAD_BYTES = 1 << 16

HANG_UP = "mlx_server.hang_up"
"""The ASGI extension with a function that drops the connection, unsent bytes and all."""

UPGRADES = b"/socket.io/"
"""The only path below which WebSockets are spoken."""

log = logging.getLogger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0
    _in_head = True
    _head_only = True
    """The data at hand is nothing but a part of a head."""

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
        self.scope["extensions"] = {HANG_UP: {"call": self.transport.abort}}

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_head = self._head_only = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Called by the parser; the next head may follow on the same connection."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP."""
        self._refuse(400, msg)

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
        from mlx_server.app.websocket import WebSocketProtocol

        self.ws_protocol_class = WebSocketProtocol
        super().handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        return self.url.startswith(UPGRADES) and self._get_upgrade() == b"websocket"

    def _unsupported_upgrade_warning(self) -> None:
        log.debug("an upgrade to another protocol was asked for and not given")
