"""What a PDF may have: told to the process that reads it."""

from __future__ import annotations

import msgspec


class DocumentLimits(msgspec.Struct, frozen=True):
    """Bounds of one PDF. `most_pictures` are shown of its pages, each with at most `most_pixels` pixels, together of
    at most `most_bytes` bytes."""

    most_pictures: int = 16
    most_pixels: int = 64_000_000
    most_bytes: int = 32 << 20
    most_pages: int = 1000
    most_characters: int = 8 << 20
