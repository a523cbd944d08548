"""API keys: `Authorization: Bearer …` or `x-api-key`."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_server.app.http import errors
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.keys import CREDENTIAL, KeyRing, credential_of, keys_in

OWNER = "mlx_server.owner"
"""Where a request's scope has its credential's owner."""

OPEN_PATHS = (
    "/",
    "/health",
    "/health/live",
    "/health/ready",
    "/api/health",
    "/api/health/live",
    "/api/health/ready",
    "/docs",
    "/api/docs",
)
"""Probes, and pages that have nothing to hide: what they show is asked for with a key."""

OPEN_FOLDERS = ("/console/", "/docs/assets/", "/socket.io/", "/v1/images/drawn/")
"""Paths below these are open too; Socket.IO's clients show their key in its handshake, and who has the address of a
picture was given it."""


class ApiKeyMiddleware:
    """Refuses requests without a configured key; health checks stay open. Without configured keys all are accepted."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] not in ("http", "websocket") or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        if (credential := self._keys.credential(keys_in(Headers(scope=scope)))) is not None:
            scope[CREDENTIAL], scope[OWNER] = credential, credential.owner
            if credential.key is not None:
                record_of(scope).key = credential.key.name
            await self._app(scope, receive, send)
            return
        message = "The API key is missing or wrong: send `Authorization: Bearer KEY` or `x-api-key: KEY`."
        error = HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
        await errors.of_exception(error).response(scope)(scope, receive, send)


def tenant_of(request: Request, salt: str | None = None) -> str:
    """Whose the KV states of a request's prompt are: those of the key that was sent, configured or not, and with a salt
    only those with the same one."""
    owner = credential_of(request).account.owner
    return hashlib.sha256(f"{owner}\0{salt}".encode()).hexdigest() if salt else owner


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
