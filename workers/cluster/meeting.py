"""A worker on a cluster, from its side: it is called by the front end, and ends with its agent."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

from mlx_server.workers.channel import Channel
from mlx_server.workers.cluster.orders import decode_admitted
from mlx_server.workers.cluster.tls import context_of

CALLED_S = 60.0
"""How long a worker waits to be called."""

HANDSHAKE_S = 5.0
"""How long a caller may take to prove who it is: the next one waits meanwhile."""

UNHEARD_MS = 30_000
"""How long what was sent may stay without an answer: a front end whose machine is gone says no farewell."""

log = logging.getLogger(__name__)


async def meet(listener: socket.socket, channel: Channel[Any], end: Callable[[int], None]) -> None:
    """Have the first caller that proves to be the front end talk over the channel. `end` is called with an exit code
    if there is none in time, and once the agent is gone."""
    words = sys.stdin.buffer
    admitted = decode_admitted(words.read(int.from_bytes(words.read(4), "big")))
    context = context_of(admitted.own, admitted.peer, calls=False)
    loop = asyncio.get_running_loop()
    loop.add_reader(words.fileno(), end, 0)  # the agent says no more: the pipe can only end
    with listener:
        try:
            async with asyncio.timeout(CALLED_S):
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    if hasattr(socket, "TCP_USER_TIMEOUT"):
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
                    try:
                        await loop.connect_accepted_socket(
                            lambda: channel, sock, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
                        )
                    except OSError as error:  # of TLS too
                        log.warning("a caller could not prove who it is: %s", error)
                        continue
                    return
        except TimeoutError:
            end(1)
