"""A process of its own: reads clients' PDFs, for a server that must not die of them."""

from __future__ import annotations

import io
import sys
from typing import Any

import msgspec
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from mlx_server.app.media.document_limits import DocumentLimits
from mlx_server.workers.engine.sandbox.child import Answer, serve

BETWEEN_PAGES = "\n\n"


class RefusedError(Exception):
    """Raised when a PDF is not read; the message says why."""


def make_ready(greeting: dict[str, Any]) -> Answer:
    """Take the limits."""
    limits = msgspec.convert(greeting, DocumentLimits)
    return lambda request: answer(request["file"], limits)


def answer(file: bytes, limits: DocumentLimits) -> dict[str, Any]:
    """`{"text", "pictures"}`, or why not: `{"refused"}`."""
    try:
        text, pictures = content_of(file, limits)
        return {"text": text, "pictures": pictures}
    except RefusedError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "this PDF can't be read: that needs too much memory"}
    except Exception as error:  # noqa: BLE001 - a broken file makes its reader stumble over anything
        why = f": {error}" if isinstance(error, PyPdfError) else ""
        return {"refused": f"this PDF can't be read{why}"[:200]}


def content_of(file: bytes, limits: DocumentLimits) -> tuple[str, list[tuple[int, bytes]]]:
    """The text of all pages, and the pictures of those without text, each with the character before which it stands.

    Without `limits.most_pictures` such pages are left out. Raises RefusedError, and whatever the libraries do for a
    bad file.
    """
    reader = PdfReader(io.BytesIO(file))
    if reader.is_encrypted and not reader.decrypt(""):
        raise RefusedError("this PDF can be read with a password only")
    if len(reader.pages) > limits.most_pages:
        raise RefusedError(f"the PDF has {len(reader.pages)} pages; at most {limits.most_pages} are allowed")
    pages, bare, characters = [], [], 0
    for number, page in enumerate(reader.pages):
        # Fonts that tell nonsense of their letters make half characters.
        text = page.extract_text().encode("utf-8", "replace").decode()
        if not text.strip():
            bare.append((number, characters))
        pages.append(text)
        characters += len(text) + len(BETWEEN_PAGES)
        if characters > limits.most_characters:
            raise RefusedError(f"the PDF has more than {limits.most_characters} characters")
    return BETWEEN_PAGES.join(pages), pictures_of(file, bare, limits) if limits.most_pictures else []


def pictures_of(file: bytes, pages: list[tuple[int, int]], limits: DocumentLimits) -> list[tuple[int, bytes]]:
    """Pictures of pages, given as their numbers and places, without the blank ones. Raises RefusedError or
    PdfiumError."""
    if not pages:
        return []
    # Most PDFs need it not.
    from mlx_server.app.media.page_pictures import PagePictures

    pictures, size = [], 0
    with PagePictures(file, limits.most_pixels) as drawn:
        for number, at in pages:
            if (picture := drawn.png(number)) is None:
                continue
            pictures.append((at, picture))
            size += len(picture)
            if len(pictures) > limits.most_pictures:
                most = limits.most_pictures
                raise RefusedError(
                    f"more than {most} pages of the PDF have no text; at most {most} are shown (--max-media-files)"
                )
            if size > limits.most_bytes:
                raise RefusedError(
                    f"pictures of the PDF's pages are larger than {limits.most_bytes} bytes (--max-body-bytes)"
                )
    return pictures


if __name__ == "__main__":
    serve(make_ready, *map(int, sys.argv[1:]))
