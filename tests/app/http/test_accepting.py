"""A crowd of clients waits for few rounds of the event loop until it is let in."""

import asyncio
import socket

import uvicorn
import uvloop
from starlette.responses import Response

from mlx_server.app.cli.runner import ACCEPTORS, Server, acceptors, listen
from mlx_server.app.server.uvicorn_protocol import HttpProtocol

ROUNDS = 5


async def rounds_until_all_are_in(crowd: int) -> int:
    """Rounds of the loop from when so many clients have connected."""
    sock = listen("127.0.0.1", 0)
    server = Server(uvicorn.Config(Response(), http=HttpProtocol, log_config=None, lifespan="off"))
    loop = asyncio.get_running_loop()
    serving = loop.create_task(server.serve(sockets=acceptors(sock)))
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


def test_several_connections_are_taken_in_one_round() -> None:
    assert uvloop.run(rounds_until_all_are_in(ROUNDS * ACCEPTORS)) <= 2 * ROUNDS
