"""A client on a bare socket: it reads when it is told to and leaves at any moment."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from support.running.servers import Server

RECEIVE_S = 30.0
CHAT = "/v1/chat/completions"


def connect(server: Server, receive_buffer: int | None = None) -> socket.socket:
    """A connection to a server; `receive_buffer` bounds what the kernel takes for a client that does not read."""
    address = urlsplit(server.root)
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(RECEIVE_S)
    sock.connect((address.hostname, address.port))
    return sock


def http_request(path: str, content: bytes, headers: Mapping[str, str] | None = None, method: str = "POST") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Content-Type: application/json"]
    fields = {"Content-Length": str(len(content)), **(headers or {})}
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class RawClient:
    """Has sent one request. Leaves with the `with` block at the latest."""

    def __init__(self, server: Server, body: Any, path: str = CHAT, *, receive_buffer: int | None = None) -> None:
        self.socket = connect(server, receive_buffer)
        self.received = b""
        self.socket.sendall(http_request(path, json.dumps(body).encode()))

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """One on a connection over which requests have been sent already."""
        client = cls.__new__(cls)
        client.socket, client.received = sock, b""
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Close the connection. Idempotent."""
        self.socket.close()

    def finish(self) -> None:
        """Close this side of the connection: nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def read_to_close(self) -> bytes:
        """Read until the server closes the connection; returns the whole answer."""
        return self._read(lambda: False)

    def read_until(self, mark: bytes) -> bytes:
        """Read until the answer so far holds `mark`; returns the answer so far."""
        return self._read(lambda: mark in self.received)

    def read_to_end(self) -> bytes:
        """Read until the server closes the connection or its chunked body ends; returns the whole answer."""
        return self._read(lambda: self.received.endswith(b"\r\n0\r\n\r\n"))

    @property
    def status(self) -> int:
        """The answer's status; reads its head if it has not come yet."""
        return int(self.read_until(b"\r\n\r\n").split(None, 2)[1])

    def _read(self, enough: Callable[[], bool]) -> bytes:
        while not enough():
            part = b""
            with contextlib.suppress(ConnectionResetError):
                part = self.socket.recv(1 << 16)
            if not part:
                break
            self.received += part
        return self.received
