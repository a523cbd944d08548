"""A request's body, up to a limit."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_HASH = "mlx_server.body_hash"
"""Key of a scope: equal bodies have equal numbers, in this process."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body; its hash is noted in the scope.

    Raises HTTPException 413 as soon as it is known to be larger than `limit_bytes`.
    """
    body = bytearray()
    if not declares_more(request, limit_bytes):
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                break
        else:
            whole = bytes(body)
            request.scope[BODY_HASH] = hash(whole)
            return whole
    raise too_large(limit_bytes)


def declares_more(request: Request, limit_bytes: int) -> bool:
    """Whether `Content-Length` announces a larger body."""
    declared = request.headers.get("content-length", "")
    return declared.isdigit() and int(declared) > limit_bytes


def too_large(limit_bytes: int) -> HTTPException:
    """The refusal of a body."""
    return HTTPException(413, f"The body is larger than {limit_bytes} bytes.", {"Connection": "close"})
