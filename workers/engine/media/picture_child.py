"""A process of its own: decodes clients' pictures, for a worker that must not die of
them."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.Image import Transpose

from mlx_server.workers.engine.sandbox.child import Answer, serve

PLUGINS = (PngImagePlugin, JpegImagePlugin, WebPImagePlugin, GifImagePlugin)
"""Imported before the process is confined."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
UNREADABLE = "this is not a picture this server can read (PNG, JPEG, WebP or GIF)"

ORIENTATION = 0x0112
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What undoes each orientation that EXIF knows."""


MOST_SCANS = 200
"""Of one JPEG: each goes over the whole picture, which makes small files slow to decode. Usual are ten."""

START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
"""A JPEG's markers that a segment with a length follows, and its end."""


class TooManyScansError(Exception):
    """Raised when a JPEG has more scans than an honest one ever has."""

    def __init__(self) -> None:
        super().__init__(f"the picture has more than {MOST_SCANS} scans")


class TooManyPixelsError(Exception):
    """Raised when a file's header says that its picture is larger than what is allowed."""

    def __init__(self, width: int, height: int, most: int) -> None:
        super().__init__(f"the picture has {width} x {height} pixels; at most {most} are allowed")


def make_ready(greeting: dict[str, Any]) -> Answer:
    """Take the limits."""
    Image.MAX_IMAGE_PIXELS = None  # ours are checked instead
    most, low = greeting["most_pixels"], greeting["low_detail_pixels"]
    return lambda request: answer(request["file"], most, low if request["low"] else None, alpha=request["alpha"])


def answer(file: bytes, most_pixels: int, fit: int | None, *, alpha: bool) -> dict[str, Any]:
    """`{"width", "height", "pixels"}`, or why not: `{"refused"}`. With `alpha` a pixel is a byte: how opaque it is."""
    try:
        picture = decode(file, most_pixels, fit, alpha=alpha)
        return {"width": picture.width, "height": picture.height, "pixels": picture.tobytes()}
    except (TooManyPixelsError, TooManyScansError) as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "this picture can't be read: decoding it needs too much memory"}
    except Exception:  # noqa: BLE001 - decoders raise whatever a broken file makes them stumble over
        return {"refused": UNREADABLE}


def decode(file: bytes, most_pixels: int, fit: int | None, *, alpha: bool = False) -> Image.Image:
    """The first frame, upright and in RGB, or how opaque its pixels are, within `fit` squared. Raises whatever Pillow
    does for a bad file."""
    image: Image.Image = Image.open(io.BytesIO(file), formats=FORMATS)
    if image.width * image.height > most_pixels:
        raise TooManyPixelsError(image.width, image.height, most_pixels)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and scans(file) > MOST_SCANS:
        raise TooManyScansError
    if fit is not None:
        image.draft("RGB", (fit, fit))  # JPEG can be decoded at an eighth of its size
    image.load()
    way = UPRIGHT.get(orientation(image))
    image = image.convert("RGBA").getchannel("A") if alpha else to_rgb(image)
    if fit is not None:
        image.thumbnail((fit, fit), Image.Resampling.BICUBIC)
    return image if way is None else image.transpose(way)


def scans(file: bytes) -> int:
    """How often a JPEG goes over its picture, counted up to a little more than MOST_SCANS."""
    at = count = 0
    while count <= MOST_SCANS and (marker := MARKER.search(file, at)):
        kind, at = marker[1][0], marker.end()
        if kind == END_OF_IMAGE:
            break
        count += kind == START_OF_SCAN
        at += int.from_bytes(file[at : at + 2], "big")
    return count


def orientation(image: Image.Image) -> int:
    """How the camera was held, as EXIF tells; 1, upright, where it tells nothing that makes sense."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF data are no reason to refuse a good picture
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB; what is transparent lets white through."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits: conversion would cut off, not scale
        return image.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.has_transparency_data:
        seen = Image.new("RGB", image.size, "white")
        image = image.convert("RGBA")
        seen.paste(image, mask=image)
        return seen
    return image.convert("RGB")


if __name__ == "__main__":
    serve(make_ready, *map(int, sys.argv[1:]))
