"""A worker on a cluster, from its side: it is called by the front end, and ends with its agent."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from mlx_server.workers.channel import Channel
from mlx_server.workers.cluster.orders import decode_admitted
from mlx_server.workers.cluster.tls import context_of
from mlx_server.workers.errors import one_line

CALLED_S = 60.0
"""How long a worker waits to be called."""

HANDSHAKE_S = 30.0
"""How long a caller may take to prove who it is, or this process to look: it may be starved of time."""

CALLERS = 16
"""How many may be about it at once; the next one waits meanwhile."""

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
                await proven(listener, channel, context)
        except TimeoutError:
            end(1)


async def proven(listener: socket.socket, channel: asyncio.Protocol, context: ssl.SSLContext) -> None:
    """Returns once a caller has proved who it is, and talks over the channel; the others are hung up on."""
    accepting = asyncio.Lock()
    hearing = [asyncio.ensure_future(heard(listener, accepting, channel, context)) for _ in range(CALLERS)]
    try:
        ended, _ = await asyncio.wait(hearing, return_when=asyncio.FIRST_COMPLETED)
        for one in ended:
            one.result()
    finally:
        for one in hearing:
            one.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)


async def heard(
    listener: socket.socket, accepting: asyncio.Lock, channel: asyncio.Protocol, context: ssl.SSLContext
) -> None:
    """Hear callers, one after the other, until one has proved who it is."""
    loop = asyncio.get_running_loop()
    while True:
        async with accepting:
            sock, _ = await loop.sock_accept(listener)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
        try:
            await loop.connect_accepted_socket(lambda: channel, sock, ssl=context, ssl_handshake_timeout=HANDSHAKE_S)
        except OSError as error:  # of TLS too
            log.warning("a caller could not prove who it is: %s", one_line(error))
        else:
            return
