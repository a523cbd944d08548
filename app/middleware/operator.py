"""What only the operator may do: the guard of endpoints that stop, delete or change what others use."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.http.keys import credential_of
from mlx_server.app.http.services import services

Endpoint = Callable[[Request], Awaitable[Response]]

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers that a proxy adds: its own address is not that of who asks."""

OWN = ("same-origin", "none")
"""What browsers say in `Sec-Fetch-Site` of a page of this server, and of an address that was typed in."""

NOBODY = "nobody"
"""The owner of no request: who asks without a configured key can't be told from others who do."""

JSON = "application/json"
FOREIGN = "Pages of other sites may not do that."


def operator_only(endpoint: Endpoint) -> Endpoint:
    """An endpoint for the operator: with a key where one is configured, else from this machine. Raises HTTPException.

    Without a key, no page in a browser gets through: neither another site's, nor one whose name was made to lead
    here. With keys a page can't send one unless it was given it. A body must be declared as JSON in either case, which
    pages can't do without asking first.
    """

    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        ensure_operator(request)
        return await endpoint(request)

    return guarded


def own_pages_only(endpoint: Endpoint) -> Endpoint:
    """An endpoint for everybody but the pages of other sites, unless these know a key. Raises HTTPException."""

    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        if credential_of(request).key is None and is_foreign_page(request):
            raise HTTPException(403, FOREIGN)
        return await endpoint(request)

    return guarded


def ensure_operator(request: Request) -> None:
    """Raises HTTPException 403 where a request may not do what only the operator may."""
    problem = problem_of(request)
    if problem:
        raise HTTPException(403, problem)


def problem_of(request: Request) -> str | None:
    """Why a request may not do what only the operator may; None if it may."""
    headers = request.headers
    if has_body(request) and headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        return f"A body here must come with `Content-Type: {JSON}`."
    if (key := credential_of(request).key) is not None:
        return None if key.operator else "This key may not do that: it is not the operator's."
    if not is_loopback(request.client.host if request.client else ""):
        return "Without an --api-key, only this machine itself may do that: start the server with a key, and send it."
    if any(name in headers for name in FORWARDED):
        return "Without an --api-key, nobody may do that through a proxy: start the server with a key, and send it."
    host = headers.get("host", "")
    if not is_own_name(host, services(request).settings.host):
        return "The Host header must name this machine, as localhost or 127.0.0.1 do, or be the --host of the server."
    return FOREIGN if is_foreign_page(request) else None


def viewer_of(request: Request) -> str | None:
    """Whose requests it may see and end: an owner's, or with None everybody's, as the operator may."""
    if problem_of(request) is None:
        return None
    credential = credential_of(request)
    return NOBODY if credential.key is None else credential.account.owner


def is_foreign_page(request: Request) -> bool:
    """Whether a browser sends it for a page that is not this server's."""
    headers = request.headers
    same = all(is_own_origin(origin, headers.get("host", "")) for origin in headers.getlist("origin"))
    return not same or headers.get("sec-fetch-site", "none") not in OWN


def has_body(request: Request) -> bool:
    """Whether a request comes with a body."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_own_name(host: str, configured: str) -> bool:
    """Whether a Host header names this machine; any other name may have been made to lead here."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name) or (name == configured.lower() and not is_any(configured))


def is_any(address: str) -> bool:
    """Whether an address stands for all of a machine's: nobody is asked for by it."""
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def is_own_origin(origin: str | None, host: str) -> bool:
    """Whether a page is this server's own; what is no page sends no origin."""
    return origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
