"""A client that stops reading is given up after a while, whatever answers it."""

import asyncio

import uvicorn
from starlette.types import Receive, Scope, Send

from mlx_server.app.cli.runner import Server, listen
from mlx_server.app.server.uvicorn_protocol import HttpProtocol

PIECE = b"x" * (1 << 16)


class Hasty(HttpProtocol):
    """Its patience fits a test."""

    __slots__ = ()
    STALL_S = 1.0


class Endless:
    """Writes until its client is gone: pieces for ever, or one that is large."""

    def __init__(self, piece: bytes) -> None:
        self.left = asyncio.Event()
        self._piece = piece

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.create_task(self._write(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        writing.cancel()
        self.left.set()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": self._piece, "more_body": True})


async def answered(*, sip: int, seconds: float, piece: bytes = PIECE) -> bool:
    """Whether an endless answer is still being written after `seconds`, to a client that reads `sip` bytes of it ten
    times a second."""
    app = Endless(piece)
    sock = listen("127.0.0.1", 0)
    server = Server(uvicorn.Config(app, http=Hasty, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    try:
        async with asyncio.timeout(seconds):
            while sip:
                assert await reader.read(sip)
                await asyncio.sleep(0.1)
            await app.left.wait()
    except TimeoutError:
        return True
    else:
        return False
    finally:
        writer.transport.abort()
        await app.left.wait()
        server.should_exit = True
        await serving


def test_client_that_does_not_read_is_given_up() -> None:
    assert not asyncio.run(answered(sip=0, seconds=30))


def test_client_that_reads_is_served_on() -> None:
    assert asyncio.run(answered(sip=1 << 24, seconds=3 * Hasty.STALL_S))


def test_client_that_reads_slowly_is_served_on() -> None:
    """One piece is more than it reads in all that time, so that its connection is full all the while."""
    assert asyncio.run(answered(sip=1 << 18, seconds=4 * Hasty.STALL_S, piece=bytes(1 << 26)))
