"""Takes connections from a listening socket, all that wait, in one round of the event loop.

An event loop takes one in a round, and a round takes milliseconds where many streams run: those who come in a crowd
would wait longer to be refused than the others to be served.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

AT_ONCE = 64
"""At most: whoever streams has to have a turn between."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
AGAIN_S = 0.1
"""How long nobody is taken when there are no descriptors left, or no memory."""

log = logging.getLogger(__name__)


class Acceptor:
    """Listens from the beginning until it is closed; a server of asyncio's, as uvicorn sees it."""

    def __init__(self, sock: socket.socket, connected: Callable[[], asyncio.Protocol]) -> None:
        """`connected` makes the protocol of each connection."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connected = connected
        self._opening: set[asyncio.Task[object]] = set()
        sock.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take no more; what has been taken goes on."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._take)

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    continue  # that one is gone again
                log.error("no connection can be taken for now: %s", error.strerror or error)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(AGAIN_S, self._listen)
                return
            opening = self._loop.create_task(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connected, connection)
        except OSError:  # it is gone again
            connection.close()
