"""uvicorn's WebSocket protocol with what it lacks: bounds on what a client that reads nothing may cost."""

from __future__ import annotations

import logging

import wsproto.events
from uvicorn.config import Config
from uvicorn.protocols.websockets.wsproto_impl import WebsocketBuffer, WSProtocol
from uvicorn.server import ServerState

MAX_UNSENT_BYTES = 1 << 18
MAX_SOCKET_IO_BYTES = 1 << 14


class WebSocketProtocol(WSProtocol):
    """One connection."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, object]) -> None:
        super().__init__(config, server_state, app_state)
        # It would write addresses to the log, and the keys in their queries.
        self.logger = logging.getLogger(__name__)
        self.logger.setLevel(logging.WARNING)

    def handle_connect(self, event: wsproto.events.Request) -> None:
        """Called for the handshake. What Socket.IO's clients say is short."""
        if event.target.startswith("/socket.io/"):
            self.buffer = WebsocketBuffer(MAX_SOCKET_IO_BYTES)
        super().handle_connect(event)

    def handle_ping(self, event: wsproto.events.Ping) -> None:
        """Called for a ping. Whoever only asks and never reads is hung up on."""
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()
            return
        super().handle_ping(event)

    def keepalive_timeout(self) -> None:
        """Called when a ping was not answered. What the client did not read is not waited for."""
        self.transport.abort()
