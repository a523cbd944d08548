"""Socket.IO's clients, and what each of them is told."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec
import socketio
from socketio.exceptions import ConnectionRefusedError as Refused
from socketio.packet import Packet
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from mlx_server.app.http.keys import KeyRing, keys_in
from mlx_server.schemas.impetus.live import NAMES, LiveEvent, is_replaceable

NAMESPACE = "/"
KEY_NAMES = ("token", "api_key")
"""What a key is called in a client's `auth` and in its query."""

MAX_MESSAGE_BYTES = 1 << 14
MAX_WAITING = 64
"""Packets that may wait for a client; what comes then is lost to it, and it is told the models' states anew."""
FEW_WAITING = 8
"""With more than these waiting, events that the next one replaces are left out."""


PATIENCE = 3
"""Sweeps that a session may stay without a key."""


class TextPacket(Packet):  # type: ignore[misc]
    """A packet without attachments: clients have nothing to send, and these would be collected without an end."""

    def decode(self, encoded_packet: str) -> int:
        """How many attachments follow: none. Raises ValueError."""
        if super().decode(encoded_packet):
            raise ValueError("attachments are not taken")
        return 0


class PromptServer(socketio.AsyncServer):  # type: ignore[misc]
    """Lets a poll end with its session: python-engineio 4.15 leaves both waiting for up to half a minute."""

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str | None = None) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            session.queue.put_nowait(None)


class Listeners:
    """Clients who have shown a key, if one is needed. `snapshot` is what a new one gets first."""

    def __init__(self, keys: KeyRing, snapshot: Callable[[], Sequence[LiveEvent]], wake: Callable[[], None]) -> None:
        self._keys = keys
        self._snapshot = snapshot
        self._wake = wake
        self._newcomers: deque[str] = deque()
        self._behind: set[str] = set()
        self._sids: dict[str, None] = {}
        self._strangers: dict[str, int] = {}
        # They log what clients send, at every level.
        for name in ("mlx_server.live.engineio", "mlx_server.live.socketio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._server = PromptServer(
            async_mode="asgi",
            cors_allowed_origins=[],  # the gate before this has looked at the origin
            max_http_buffer_size=MAX_MESSAGE_BYTES,
            serializer=TextPacket,
            async_handlers=False,
            engineio_logger=logging.getLogger("mlx_server.live.engineio"),
            logger=logging.getLogger("mlx_server.live.socketio"),
        )
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)

    @property
    def count(self) -> int:
        """How many listen."""
        return len(self._sids)

    @property
    def connections(self) -> int:
        """How many sessions there are, those who have shown no key included."""
        return len(self._server.eio.sockets)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An HTTP request or a WebSocket."""
        await self._server.handle_request(scope, receive, send)

    async def greet(self) -> None:
        """Send newcomers the snapshot, and those who lost something, once they can take it."""
        caught_up = [sid for sid in self._behind if self._waiting(sid) <= FEW_WAITING]
        self._behind.difference_update(caught_up)
        newcomers, self._newcomers = [*self._newcomers], deque()
        for sid in (*newcomers, *caught_up):
            for event in self._snapshot():
                await self._emit(sid, event)

    async def emit(self, event: LiveEvent) -> None:
        """Send an event to everybody."""
        for sid in list(self._sids):
            await self._emit(sid, event)

    async def sweep(self) -> None:
        """End sessions that have shown no key for `PATIENCE` sweeps, or a wrong one."""
        authenticated = {self._server.manager.eio_sid_from_sid(sid, NAMESPACE) for sid in self._sids}
        sessions = dict(self._server.eio.sockets)
        self._strangers = {name: self._strangers.get(name, 0) + 1 for name in sessions if name not in authenticated}
        for name, sweeps in self._strangers.items():
            if sweeps > PATIENCE:
                await sessions[name].close(wait=False, abort=False)

    async def close(self) -> None:
        """End all sessions. What clients don't read is not waited for."""
        for session in list(self._server.eio.sockets.values()):
            await session.close(wait=False, abort=False)
        await self._server.shutdown()

    async def _connect(self, sid: str, environ: dict[str, Any], auth: object) -> None:
        scope = environ["asgi.scope"]
        given = (*keys_in(Headers(scope=scope)), *keys_of(scope["query_string"], auth))
        if self._keys.credential(given) is None:
            self._strangers[self._server.manager.eio_sid_from_sid(sid, NAMESPACE)] = PATIENCE
            raise Refused("The API key is missing or wrong: send `auth: {token: KEY}` or `Authorization: Bearer KEY`.")
        self._sids[sid] = None
        self._newcomers.append(sid)
        self._wake()

    async def _disconnect(self, sid: str, reason: str) -> None:
        self._sids.pop(sid, None)
        self._behind.discard(sid)

    async def _emit(self, sid: str, event: LiveEvent) -> None:
        if sid not in self._sids:
            return
        waiting = self._waiting(sid)
        if is_replaceable(event) and waiting > FEW_WAITING:
            return
        if waiting >= MAX_WAITING:
            self._behind.add(sid)
            return
        await self._server.emit(NAMES[type(event)], msgspec.to_builtins(event), to=sid)

    def _waiting(self, sid: str) -> int:
        session = self._server.eio.sockets.get(self._server.manager.eio_sid_from_sid(sid, NAMESPACE))
        return 0 if session is None else int(session.queue.qsize())


def keys_of(query: bytes, auth: object) -> list[bytes]:
    """The keys in a client's query and in its `auth`, whatever it sent there."""
    queried = parse_qs(query.decode("latin-1"))
    given = [value for name in KEY_NAMES for value in queried.get(name, ())]
    if isinstance(auth, dict):
        given += [auth[name] for name in KEY_NAMES if isinstance(auth.get(name), str)]
    return [value.encode(errors="surrogatepass") for value in given]
