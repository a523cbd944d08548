"""What a model that takes pictures brings to the rendering of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mlx_server.schemas.internal.generation import Media, Message
from mlx_server.workers.engine.prompt.templates.content import Content

if TYPE_CHECKING:
    from mlx_server.workers.engine.vision.inputs import MediaInputs


class MediaSupport(Protocol):
    """Reads the pictures of conversations, for a model that takes them."""

    def check(self, media: Sequence[Media]) -> None:
        """Raises InvalidRequest for a kind that the model does not take."""

    def marked(self, message: Message) -> Content:
        """A message's content with the model's own marks for its pictures. Raises InvalidRequest."""

    def read(self, text: str, media: Sequence[Media], *, special: bool, param: str) -> tuple[list[int], MediaInputs]:
        """The token ids of a rendered prompt with its media, which are decoded, and what the model takes beside them.

        Raises InvalidRequest.
        """
