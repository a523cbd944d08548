"""Which pages in browsers may use the server: Starlette's CORS middleware, with what our clients need."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

ANY = "*"
EXPOSED = (
    ANY,
    "Idempotent-Replayed",
    "Request-Id",
    "Retry-After",
    "X-Dropped-Messages",
    "X-Ignored-Fields",
    "X-Prompt-Cache",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-Id",
    "X-Should-Retry",
)
"""Headers of answers that pages may read; by name for those that send credentials, to whom `*` is only a name."""


def cors(origins: Sequence[str]) -> list[Middleware]:
    """The middleware that lets pages of these origins in; none for no origins. For all of them, without credentials."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=[ANY],
            allow_headers=[ANY],
            allow_credentials=ANY not in origins,
            allow_private_network=True,
            expose_headers=EXPOSED,
        )
    ]
