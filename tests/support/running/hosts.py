"""A host on this machine that serves files, well or badly; every connection is a plain socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Host:
    """`asked` are the request lines and headers so far, `open` the connections that still are."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.quiet = asyncio.Event()
        """Set while no connection is open."""
        self.quiet.set()
        self.port = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's one request."""
        self.open.add(writer)
        self.quiet.clear()
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            await self._answer(head.split()[1], writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.open.discard(writer)
            if not self.open:
                self.quiet.set()


@contextlib.asynccontextmanager
async def host(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[Host]:
    """A host on a free port of this machine."""
    running = Host(answer)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0, ssl=context)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


def reply(writer: asyncio.StreamWriter, body: bytes = b"", status: str = "200 OK", **headers: str) -> None:
    """A whole response; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
