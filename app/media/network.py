"""Connections to public addresses only: what was looked at is what is connected to."""

from __future__ import annotations

import functools
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import httpcore2
from anyio import CapacityLimiter, to_thread

from mlx_server.app.media.problem import MediaProblem

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, best first. Raises OSError."""

NOT_PUBLIC = (
    "its host can't be found, or has no public address (--private-media-urls allows those of this machine and its"
    " networks)"
)
"""One answer for both: whether an internal name exists is nobody's business."""

FIRST_TRY_S = 3.0
"""After that the next address of the same host is tried."""


class Resolver:
    """Asks the system, in threads of its own: a name server that hangs holds nobody else up."""

    def __init__(self, threads: int = 8) -> None:
        self._limiter = CapacityLimiter(threads)

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses of a host. Raises OSError."""
        found = await to_thread.run_sync(
            functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM),
            abandon_on_cancel=True,
            limiter=self._limiter,
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a host once for each connection, and connects to exactly what was found if all of it is allowed.

    TLS is spoken with the host's name as ever.
    """

    def __init__(self, resolve: Resolve, allowed: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._tcp = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base class has it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises MediaProblem for an address that is not allowed, and what httpcore2 raises."""
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not all(map(self._allowed, addresses)):
            raise MediaProblem(NOT_PUBLIC)
        for address in addresses[:-1]:
            with anyio.move_on_after(FIRST_TRY_S):
                try:
                    return await self._tcp.connect_tcp(address, port, timeout, local_address, socket_options)
                except httpcore2.ConnectError:
                    pass
        return await self._tcp.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)
