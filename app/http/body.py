"""A request's body, up to a limit."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """All of it. Raises HTTPException 413 as soon as it is known to be larger than `limit_bytes`."""
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not (declared.isdigit() and int(declared) > limit_bytes):
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                break
        else:
            return bytes(body)
    raise HTTPException(413, f"The body is larger than {limit_bytes} bytes.", {"Connection": "close"})
