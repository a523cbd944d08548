"""Pictures as files, made by Pillow and by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image


def picture_file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file of this kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(colour: Any = "red", size: tuple[int, int] = (8, 4), mode: str = "RGB") -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, size, colour)


def halves(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    """A greyscale PNG whose header says this size, whatever its (compressed) pixels are."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + png_chunk(b"IEND", b"")


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that goes over the same coefficients again and again: small, and slow to decode."""
    file = picture_file(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:last] + file[last:-2] * scans + file[-2:]
