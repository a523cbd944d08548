"""A crowd of clients waits for few rounds of the event loop until it is let in."""

import asyncio
import contextlib
import os
import resource
import socket

import pytest
import uvicorn
import uvloop
from starlette.responses import Response

from mlx_server.app.cli.runner import Server, listen
from mlx_server.app.server.acceptor import Acceptor
from mlx_server.app.server.uvicorn_protocol import HttpProtocol

CROWD, ROUNDS = 40, 5
"""More than an event loop takes by itself in so many rounds, and fewer than wait on a Mac."""


async def rounds_until_all_are_in(crowd: int) -> int:
    """Rounds of the loop from when so many clients have connected."""
    sock = listen("127.0.0.1", 0)
    server = Server(uvicorn.Config(Response(), http=HttpProtocol, log_config=None, lifespan="off"))
    loop = asyncio.get_running_loop()
    serving = loop.create_task(server.serve(sockets=[sock]))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0)
    clients = [socket.create_connection(sock.getsockname()) for _ in range(crowd)]
    rounds = 0
    while len(server.server_state.connections) < crowd:
        await asyncio.sleep(0)
        rounds += 1
    for client in clients:
        client.close()
    server.should_exit = True
    await serving
    return rounds


def test_a_crowd_is_taken_in_few_rounds() -> None:
    assert uvloop.run(rounds_until_all_are_in(CROWD)) <= ROUNDS


def test_without_descriptors_connections_wait_and_are_taken_later() -> None:
    async def scenario() -> None:
        sock = listen("127.0.0.1", 0)
        taken = asyncio.Event()

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.set()
                transport.close()

        acceptor = Acceptor(sock, Taken)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket()
        client.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        rest: list[int] = []
        with contextlib.suppress(OSError):
            while True:
                rest.append(os.dup(client.fileno()))
        try:
            await asyncio.get_running_loop().sock_connect(client, sock.getsockname())
            await asyncio.sleep(0.05)
            assert not taken.is_set()
        finally:
            for descriptor in rest:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.wait_for(taken.wait(), 10)
        for _ in range(2):
            acceptor.close()
        await acceptor.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(client.getpeername())
        client.close()

    uvloop.run(scenario())
