"""Answers that are JSON."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def json_answer(answer: msgspec.Struct | Mapping[str, object], status: int = 200) -> Response:
    """A struct, or an object by its keys, as a response."""
    return Response(_encode(answer), status, media_type="application/json")
