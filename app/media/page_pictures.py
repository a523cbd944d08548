"""Pictures of PDFs' pages. Only the process that reads clients' PDFs imports this: PDFium may die of a bad one."""

from __future__ import annotations

import io
from types import TracebackType
from typing import Self

import pypdfium2
from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

DOTS_PER_INCH = 150
POINTS_PER_INCH = 72
WHITE = 255
MOST_SIDE = 2048
"""Pixels of a page's longer side: small print of a page of A3 can be read."""


class PagePictures:
    """A PDF whose pages can be drawn, none with more than `most_pixels` pixels. Raises PdfiumError for a bad one."""

    def __init__(self, file: bytes, most_pixels: int) -> None:
        self._document = pypdfium2.PdfDocument(file)
        self._most_pixels = most_pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._document.close()

    def png(self, number: int) -> bytes | None:
        """A page as a PNG file, counted from 0; None for one that is blank. Raises PdfiumError."""
        page = self._document[number]
        bitmap = page.render(scale=scale_of(max(page.get_size()), self._most_pixels))
        picture = bitmap.to_pil()
        try:
            if picture.convert("L").getextrema() == (WHITE, WHITE) and not holds_pictures(page):
                return None
            file = io.BytesIO()
            picture.save(file, "PNG", compress_level=3)
            return file.getvalue()
        finally:
            bitmap.close()
            page.close()


def holds_pictures(page: pypdfium2.PdfPage) -> bool:
    """Whether there is a picture on a page, be it a white one, or one that can't be drawn."""
    return any(True for _ in page.get_objects(filter=(FPDF_PAGEOBJ_IMAGE,)))


def scale_of(longer_side: float, most_pixels: int) -> float:
    """Pixels per point, for a page whose longer side has so many points."""
    # PDFium rounds both sides up.
    side = max(min(MOST_SIDE, int(most_pixels**0.5)) - 1, 1)
    return min(DOTS_PER_INCH / POINTS_PER_INCH, side / max(longer_side, 1))
