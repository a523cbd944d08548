"""How many requests each client may make in a time."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_server.app.http.errors import Answer
from mlx_server.app.http.keys import KeyRing, keys_in

if TYPE_CHECKING:
    from limits import RateLimitItem

EXEMPT = (
    "/health",
    "/health/live",
    "/health/ready",
    "/api/health",
    "/api/health/live",
    "/api/health/ready",
    "/api/health/status",
)
"""Probes ask as often as they were told to."""

MAX_CLIENTS = 2000
"""So many clients are remembered; of more, those that were quiet for longest start anew."""


class RateLimitMiddleware:
    """Refuses with 429 what exceeds one of `rates` (`100/minute; 10/second`); refused requests count nowhere.

    Clients are told apart by their key where keys are configured, else by their address: that of their connection,
    as anybody may write anything into `X-Forwarded-For`. Raises ValueError for rates that can't be read.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, rates: str, max_clients: int = MAX_CLIENTS) -> None:
        # They take a tenth of a second to import, and most servers set no limits.
        from limits import parse_many
        from limits.aio.storage import MemoryStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        self._app = app
        self._keys = keys
        self._max_clients = max_clients
        self._rates = parse_many(rates)
        # Its two counters for a client and a rate take the same room however many requests there are.
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._clients: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request, and pass it on if it may pass."""
        if scope["type"] not in ("http", "websocket") or exempt(scope):
            await self._app(scope, receive, send)
            return
        client = client_of(scope, self._keys)
        await self._remember(client)
        exceeded = [rate for rate in self._rates if not await self._limiter.test(rate, client)]
        if not exceeded:
            for rate in self._rates:
                await self._limiter.hit(rate, client)
        headers, wait_s = await self._report((exceeded or self._rates)[0], client)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        if exceeded:
            text = f"The limit of requests is reached ({exceeded[0]}): come again in {wait_s} s."
            refusal = Answer(
                429, "rate_limit_error", text, None, "rate_limit_exceeded", {"Retry-After": str(wait_s), **headers}
            )
            await refusal.response(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send_with_headers)

    async def _report(self, rate: RateLimitItem, client: str) -> tuple[dict[str, str], int]:
        """Headers with what is left of a rate, and in how many seconds more will be."""
        reset, remaining = await self._limiter.get_window_stats(rate, client)
        headers = {
            "X-RateLimit-Limit": str(rate.amount),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(math.ceil(reset)),
        }
        return headers, max(1, math.ceil(reset - time.time()))

    async def _remember(self, client: str) -> None:
        self._clients[client] = None
        self._clients.move_to_end(client)
        if len(self._clients) > self._max_clients:
            quiet, _ = self._clients.popitem(last=False)
            for rate in self._rates:
                await self._limiter.clear(rate, quiet)


def exempt(scope: Scope) -> bool:
    """Probes, the console's files, and what goes on in a Socket.IO session, whose beginning was counted."""
    path = scope["path"]
    if path.startswith("/socket.io/"):
        return b"sid=" in scope["query_string"]
    return path in EXEMPT or path.startswith("/console/")


def client_of(scope: Scope, keys: KeyRing) -> str:
    """Who asks: a hash of a configured key, or an address; addresses of one IPv6 network are one client."""
    credential = keys.credential(keys_in(Headers(scope=scope))) if keys.configured else None
    if credential is not None:
        return f"key {credential.account.owner}"
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"host {host}"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"network {ipaddress.ip_network((address, 64), strict=False)}"
        address = address.ipv4_mapped
    return f"address {address}"
