"""API keys: `Authorization: Bearer …` or `x-api-key`."""

from __future__ import annotations

import hashlib
import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_server.app import errors

OWNER = "mlx_server.owner"
"""Where a request's scope has a hash of the key it came with: whose the things are that are kept for it."""

OPEN_PATHS = ("/health", "/health/live", "/health/ready")


class ApiKeyMiddleware:
    """Refuses requests without a configured key; health checks stay open. Without configured keys all are accepted."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        keys = self._accepted(Headers(scope=scope))
        if keys or not self._keys:
            scope[OWNER] = hashlib.sha256(keys[0]).hexdigest() if keys else ""
            await self._app(scope, receive, send)
            return
        message = "The API key is missing or wrong: send `Authorization: Bearer KEY` or `x-api-key: KEY`."
        error = HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
        await errors.of_exception(error).response(scope)(scope, receive, send)

    def _accepted(self, headers: Headers) -> list[bytes]:
        """Those of the request's keys that let it in: any, where none is configured."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        # Latin-1 gives back the bytes that were sent, whatever they are.
        given = [value.encode("latin-1") for value in (bearer, headers.get("x-api-key", "")) if value]
        if not self._keys:
            return given
        # Every pair is compared, each in constant time: the time tells nothing about the keys.
        same = [(hmac.compare_digest(key, value), value) for key in self._keys for value in given]
        return [value for equal, value in same if equal]
