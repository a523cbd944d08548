"""Decoding of clients' pictures."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import Media
from mlx_server.schemas.messages import MediaLimits


class PictureReader:
    """Tokenizer's thread only; `close` from any."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits

    def read(self, media: Sequence[Media]) -> list[Image.Image]:
        """Pictures in RGB. Raises InvalidRequest."""
        return [decoded(one) for one in media]

    def close(self) -> None:
        """Nothing to release."""


def decoded(media: Media) -> Image.Image:
    """One picture. Raises InvalidRequest."""
    assert isinstance(media.source, bytes)
    try:
        return Image.open(BytesIO(media.source)).convert("RGB")
    except OSError as error:
        raise InvalidRequest(f"`{media.param}` is no picture: {error}", media.param) from None
