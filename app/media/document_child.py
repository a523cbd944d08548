"""A process of its own: reads clients' PDFs, for a server that must not die of them."""

from __future__ import annotations

import io
import sys
from typing import Any

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from mlx_server.workers.engine.sandbox.child import Answer, serve

BETWEEN_PAGES = "\n\n"


class RefusedError(Exception):
    """Raised when a PDF is not read; the message says why."""


def make_ready(greeting: dict[str, Any]) -> Answer:
    """Take the limits."""
    most_pages, most_characters = greeting["most_pages"], greeting["most_characters"]
    return lambda request: answer(request["file"], most_pages, most_characters)


def answer(file: bytes, most_pages: int, most_characters: int) -> dict[str, Any]:
    """`{"text"}`, or why not: `{"refused"}`."""
    try:
        return {"text": text_of(file, most_pages, most_characters)}
    except RefusedError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "this PDF can't be read: that needs too much memory"}
    except Exception as error:  # noqa: BLE001 - a broken file makes its reader stumble over anything
        why = f": {error}" if isinstance(error, PyPdfError) else ""
        return {"refused": f"this PDF can't be read{why}"[:200]}


def text_of(file: bytes, most_pages: int, most_characters: int) -> str:
    """The text of all pages; that of none where they hold pictures only. Raises RefusedError, and whatever pypdf does
    for a bad file."""
    reader = PdfReader(io.BytesIO(file))
    if reader.is_encrypted and not reader.decrypt(""):
        raise RefusedError("this PDF can be read with a password only")
    if len(reader.pages) > most_pages:
        raise RefusedError(f"the PDF has {len(reader.pages)} pages; at most {most_pages} are allowed")
    pages, characters = [], 0
    for page in reader.pages:
        # Fonts that tell nonsense of their letters make half characters.
        pages.append(page.extract_text().encode("utf-8", "replace").decode())
        characters += len(pages[-1])
        if characters > most_characters:
            raise RefusedError(f"the PDF has more than {most_characters} characters")
    return BETWEEN_PAGES.join(pages)


if __name__ == "__main__":
    serve(make_ready, *map(int, sys.argv[1:]))
