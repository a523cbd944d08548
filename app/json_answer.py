"""Answers that are JSON."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def json_answer(answer: msgspec.Struct, status: int = 200) -> Response:
    """A struct as a response."""
    return Response(_encode(answer), status, media_type="application/json")
