"""A client that does not send what it began is hung up on after a while, however many of them there are."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator

import psutil
import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from mlx_server.app.cli.runner import Server, listen
from mlx_server.app.server.uvicorn_protocol import HttpProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\n"
LATE = "The rest of the request's {} did not come within 0.5 seconds."
CROWD = 500


class Hasty(HttpProtocol):
    """Its patience fits a test."""

    __slots__ = ()
    SEND_S = 0.5


class Application:
    """Answers with the body that came, or counts the clients that left before theirs was there."""

    def __init__(self) -> None:
        self.left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            self.left += 1
            return
        await PlainTextResponse(body)(scope, receive, send)


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers before it has read."""
    await PlainTextResponse("no", 403)(scope, receive, send)


async def takes_long(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers for longer than anybody may take to send a head."""

    async def words() -> AsyncIterator[str]:
        for word in ("one ", "two ", "three"):
            yield word
            await asyncio.sleep(Hasty.SEND_S)

    await StreamingResponse(words())(scope, receive, send)


@contextlib.asynccontextmanager
async def serving(app: object) -> AsyncIterator[tuple[Server, tuple[str, int]]]:
    """A server with this patience, and its address."""
    sock = listen("127.0.0.1", 0)
    server = Server(uvicorn.Config(app, http=Hasty, log_config=None, lifespan="off"))  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield server, sock.getsockname()
    finally:
        server.should_exit = True
        await task


async def said_to(app: object, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """All that a client hears that sends these parts with pauses between them, until it is hung up on."""
    async with asyncio.timeout(30), serving(app) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        hearing = asyncio.create_task(reader.read())
        for part in parts:
            if not hearing.done():
                writer.write(part)
                await asyncio.sleep(pause_s)
        heard = await hearing
        writer.close()
        return heard


@pytest.mark.parametrize(("sent", "part"), [(HEAD[:20], "head"), (HEAD, "body"), (HEAD + b"half", "body")], ids=str)
def test_client_that_stops_sending_is_told(sent: bytes, part: str) -> None:
    app = Application()
    head, _, body = asyncio.run(said_to(app, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert json.loads(body)["error"]["message"] == LATE.format(part)
    assert app.left == (part == "body")


def test_head_byte_by_byte_is_not_waited_for() -> None:
    drops = [HEAD[place : place + 1] for place in range(len(HEAD))]
    assert b" 408 " in asyncio.run(said_to(Application(), *drops, pause_s=0.05))


def test_body_that_comes_slowly_is_waited_for() -> None:
    last = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    heard = asyncio.run(said_to(Application(), HEAD, *(b"drop" for _ in range(2)), last, pause_s=0.6 * Hasty.SEND_S))
    assert b"\r\n\r\ndropdropHTTP/1.1 200 OK" in heard


def test_client_that_says_nothing_hears_nothing() -> None:
    assert asyncio.run(said_to(Application())) == b""


def test_late_rest_of_a_refused_body_is_no_second_refusal() -> None:
    assert asyncio.run(said_to(refuses, HEAD)).count(b"HTTP/1.1 ") == 1


def test_next_head_may_wait_while_an_answer_comes() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
    heard = asyncio.run(said_to(takes_long, whole + whole[:10]))
    assert heard.index(b"three") < heard.index(b" 408 ")


async def crowd_comes_and_goes() -> tuple[int, int]:
    """Connections that are opened and dropped amid everything; how many descriptors and tasks are left over."""
    app, process = Application(), psutil.Process()
    async with serving(app) as (server, address):
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0)
        gc.collect()  # what other tests have dropped is not closed meanwhile
        descriptors, tasks = process.num_fds(), len(asyncio.all_tasks())
        for sent in (b"", HEAD[:20], HEAD, HEAD + b"half", HEAD + b"all here"):
            opened = await asyncio.gather(*(asyncio.open_connection(*address) for _ in range(CROWD)))
            for _, writer in opened:
                writer.write(sent)
                await writer.drain()
                writer.transport.abort()
        async with asyncio.timeout(30):
            while server.server_state.connections or server.server_state.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return process.num_fds() - descriptors, len(asyncio.all_tasks()) - tasks


def test_connections_that_are_opened_and_dropped_leave_nothing() -> None:
    assert asyncio.run(crowd_comes_and_goes()) == (0, 0)
