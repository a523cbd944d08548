"""Why a file could not be had."""

from __future__ import annotations

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Media


class MediaProblem(Exception):  # noqa: N818 - named for what it is
    """Raised when a file can't be had; the message goes on after the name of the field that asks for it."""

    def about(self, media: Media | Document) -> InvalidRequest:
        """The refusal of a request."""
        return InvalidRequest(f"`{media.param}`: {self}.", media.param)


class TooLarge(MediaProblem):
    """Raised when a file is larger than what is allowed."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the file is larger than {most_bytes} bytes (--max-media-mb)")
