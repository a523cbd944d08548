"""Media with the bytes of files in the place of their addresses."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from mlx_server.schemas.attachments import Change
from mlx_server.schemas.internal.generation import Media, Remote

Files = Mapping[Remote, bytes]


def with_bytes(files: Files) -> Change:
    """Gives media the bytes that their addresses stand for."""

    def change(media: Media) -> Media:
        return replace(media, source=files[media.source]) if isinstance(media.source, Remote) else media

    return change
