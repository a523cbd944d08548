"""PDFs, made by hand, and of pictures."""

from __future__ import annotations

import io
import zlib

from PIL import Image


def pdf(*pages: str, packed: bytes | None = None) -> bytes:
    """A PDF with these texts on its pages, in Helvetica; `packed` takes the place of a page's content, compressed."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode()]
    for i, text in enumerate(pages):
        shown = packed or zlib.compress(f"BT /F 12 Tf 20 100 Td ({text}) Tj ET".encode("latin-1"))
        font = "<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>>>>>"
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Resources{font}/Contents {4 + 2 * i} 0 R>>"
        content = b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(shown), shown)
        objects += [page.encode(), content]
    file, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(file)}\n%%EOF"
    )
    return file + end.encode()


def scanned(*pages: Image.Image) -> bytes:
    """A PDF with one of these pictures on each page, and no text."""
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:])
    return file.getvalue()
