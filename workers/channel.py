"""Framed messages over one end of a socket pair: a 4-byte big-endian length, then MessagePack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from mlx_server.schemas.internal import messages

Incoming = TypeVar("Incoming")

WRITE_BUFFER_BYTES = 1 << 12
"""A writer is told to wait above this, so that what a busy reader has not seen stays with the one who made it."""


class Channel(asyncio.Protocol, Generic[Incoming]):
    """Sends messages and hands over those that arrive; `on_closed` is called once, when the other end is gone."""

    def __init__(
        self,
        decode: Callable[[bytes], Incoming],
        on_message: Callable[[Incoming], None],
        on_closed: Callable[[], None],
        on_writable: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._decode = decode
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_writable = on_writable
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, message: Any) -> None:
        """Queue a message; lost without a word if the other end is gone (`on_closed` tells)."""
        body = messages.encode(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(body).to_bytes(4, "big") + body)

    def close(self) -> None:
        """Flush and close. Idempotent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with any part of the stream."""
        self._buffer += data
        buffer, start = self._buffer, 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < end:
                break
            self._on_message(self._decode(bytes(buffer[start + 4 : end])))
            start = end
        del buffer[:start]

    def pause_writing(self) -> None:
        """Called by the loop when the other end does not keep up."""
        self._on_writable(False)

    def resume_writing(self) -> None:
        """Called by the loop when it does again."""
        self._on_writable(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop, once."""
        self._on_closed()
