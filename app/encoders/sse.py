"""Server-sent events (WHATWG HTML, 9.2)."""

from __future__ import annotations

import msgspec

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def event(chunk: msgspec.Struct) -> bytes:
    """One event whose data is JSON on one line."""
    return b"data: " + _encode(chunk) + b"\n\n"
