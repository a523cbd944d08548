"""A keep-alive HTTP/1.1 client connection that costs little per event: one protocol, one C parser."""

import asyncio
import json
import ssl
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast
from urllib.parse import SplitResult

import httptools
from lib.sse import EventTally


@dataclass(slots=True)
class Exchange:
    """One request and what came back; times are `perf_counter` seconds."""

    started_s: float
    ended_s: float = 0.0
    status: int | None = None
    retry_after: str | None = None
    streaming: bool = False
    closed_early: bool = False
    body: bytearray = field(default_factory=bytearray)
    tally: EventTally = field(default_factory=EventTally)
    # One entry per read that completed at least one event with text.
    read_times_s: "array[float]" = field(default_factory=lambda: array("d"))
    read_contents: "array[int]" = field(default_factory=lambda: array("L"))

    @property
    def outcome(self) -> str:
        """`ok`, `http_<status>`, `error_event`, `incomplete` or `disconnected`."""
        if self.status is None:
            return "disconnected"
        if self.status != 200:
            return f"http_{self.status}"
        if not self.streaming:
            return "disconnected" if self.closed_early else "ok"
        ending = self.tally.ending()
        return "disconnected" if ending == "incomplete" and self.closed_early else ending

    def gaps_s(self) -> list[float]:
        """Seconds between consecutive events with text; events that shared a read are 0 apart."""
        gaps: list[float] = []
        previous: float | None = None
        for now, count in zip(self.read_times_s, self.read_contents, strict=True):
            if previous is not None:
                gaps.append(now - previous)
            gaps.extend([0.0] * (count - 1))
            previous = now
        return gaps


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `usable` says whether another one may follow."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        # The parser calls this for every chunk: the list's own method spares a Python frame each time.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._ended: asyncio.Future[None] | None = None
        self._complete = False
        self.usable = False

    async def exchange(self, request: bytes, started_s: float | None = None) -> Exchange:
        """Sends `request` and returns when the response has ended or the connection was lost.

        `started_s` is the instant that latencies are counted from; now by default.
        """
        assert self._transport is not None
        assert self._exchange is None
        exchange = Exchange(perf_counter() if started_s is None else started_s)
        self._exchange = exchange
        self._complete = False
        self._ended = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._ended
        finally:
            self._exchange = None
        return exchange

    @property
    def current(self) -> Exchange | None:
        """The exchange under way, as far as it has come."""
        return self._exchange

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def pause_reading(self) -> None:
        """Leaves what arrives in the system's buffer, which grows only for a program that reads."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        exchange = self._exchange
        if exchange is None:
            self.close()
            return
        self._parser.feed_data(data)
        if self._pieces:
            self._take_body(exchange, now)
        if self._complete:
            self._finish(exchange, now)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._exchange is not None and not self._complete:
            self._exchange.closed_early = True
            self._finish(self._exchange, perf_counter())

    # httptools.HttpResponseParser

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._exchange is not None
        name = name.lower()
        if name == b"retry-after":
            self._exchange.retry_after = value.decode("latin-1")
        elif name == b"content-type":
            self._exchange.streaming = value.startswith(b"text/event-stream")

    def on_headers_complete(self) -> None:
        assert self._exchange is not None
        self._exchange.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self._complete = True
        self.usable = self._parser.should_keep_alive()

    def _take_body(self, exchange: Exchange, now: float) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if not exchange.streaming:
            exchange.body += body
            return
        contents = exchange.tally.feed(body)
        if contents:
            exchange.read_times_s.append(now)
            exchange.read_contents.append(contents)

    def _finish(self, exchange: Exchange, now: float) -> None:
        exchange.ended_s = now
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


async def connect(url: SplitResult) -> Connection:
    """Opens a connection to the host of an http or https `url`; OSError when nobody answers."""
    secure = ssl.create_default_context() if url.scheme == "https" else None
    host = url.hostname or "localhost"
    port = url.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, host, port, ssl=secure)
    return connection


def http_request(
    method: str,
    url: SplitResult,
    path: str,
    body: Mapping[str, Any] | None = None,
    api_key: str | None = None,
) -> bytes:
    """The bytes of one request with an optional JSON body."""
    payload = b"" if body is None else json.dumps(body).encode()
    head = [
        f"{method} {path} HTTP/1.1",
        f"Host: {url.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
    ]
    if api_key:
        head.append(f"Authorization: Bearer {api_key}")
    return "\r\n".join([*head, "", ""]).encode() + payload
