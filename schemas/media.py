"""Pictures in requests."""

from __future__ import annotations

import binascii
from typing import Literal

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Media


class ImageUrl(msgspec.Struct, frozen=True):
    """Where a picture is."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


def image_of(given: str | ImageUrl, param: str) -> Media:
    """A picture before a text. Raises InvalidRequest."""
    url = given if isinstance(given, str) else given.url
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise InvalidRequest(f"`{param}`: expected a data URI (data:image/png;base64,…).", param)
    try:
        source = binascii.a2b_base64(data.encode(), strict_mode=True)
    except ValueError as error:
        raise InvalidRequest(f"`{param}` is not valid base64: {error}.", param) from None
    return Media("image", source, 0, param, (None if isinstance(given, str) else given.detail) or "auto")
