"""Pictures: what every kind of file becomes, and what no file may do to the worker."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from support.pictures import halves, many_scans, picture_file, plain, png, png_chunk

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import MediaLimits
from mlx_server.workers.engine.media.pictures import PictureReader

UNREADABLE = "is not a picture this server can read (PNG, JPEG, WebP or GIF)"
PARAM = "messages[0].content[1].image_url"


@pytest.fixture(scope="module")
def reader() -> Iterator[PictureReader]:
    reader = PictureReader(MediaLimits(image_pixels=4_000_000))
    yield reader
    reader.close()


def read(reader: PictureReader, file: bytes, **more: Any) -> Image.Image:
    return reader.read([Media("image", file, 0, PARAM, **more)])[0]


def refusal(reader: PictureReader, file: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(reader, file)
    assert caught.value.param == PARAM
    return caught.value.message


def near(colour: Any, wanted: tuple[int, int, int], by: int = 3) -> bool:
    return all(abs(a - b) <= by for a, b in zip(colour, wanted, strict=True))


@pytest.mark.parametrize(
    ("kind", "image", "options", "wanted"),
    [
        ("PNG", plain((200, 100, 50)), {}, (200, 100, 50)),
        ("JPEG", plain((200, 100, 50)), {"quality": 95}, (200, 100, 50)),
        ("JPEG", plain((200, 100, 50)), {"quality": 95, "progressive": True}, (200, 100, 50)),
        ("JPEG", plain((0, 255, 255, 0), mode="CMYK"), {"quality": 95}, (255, 0, 0)),
        ("JPEG", plain(77, mode="L"), {}, (77, 77, 77)),
        ("WEBP", plain((200, 100, 50)), {"lossless": True}, (200, 100, 50)),
        ("WEBP", plain((255, 0, 0, 128), mode="RGBA"), {"lossless": True}, (255, 127, 127)),
        ("GIF", plain((200, 100, 50)).quantize(2), {}, (200, 100, 50)),
        ("PNG", plain((0, 0, 0, 0), mode="RGBA"), {}, (255, 255, 255)),
        ("PNG", plain((0, 0, 255, 128), mode="RGBA"), {}, (127, 127, 255)),
        ("PNG", plain((0, 0), mode="LA"), {}, (255, 255, 255)),
        ("PNG", plain((200, 100, 50)).quantize(4), {}, (200, 100, 50)),
        ("PNG", plain((200, 100, 50)).quantize(4), {"transparency": b"\0" * 4}, (255, 255, 255)),
        ("PNG", plain(1, mode="1"), {}, (255, 255, 255)),
        ("PNG", plain(40_000, mode="I;16"), {}, (156, 156, 156)),
        ("PNG", plain(300, mode="I;16"), {}, (1, 1, 1)),
    ],
)
def test_any_mode_of_any_kind_becomes_rgb(
    reader: PictureReader, kind: str, image: Image.Image, options: dict[str, Any], wanted: tuple[int, int, int]
) -> None:
    picture = read(reader, picture_file(image, kind, **options))
    assert (picture.mode, picture.size) == ("RGB", (8, 4))
    assert near(picture.getpixel((1, 1)), wanted), picture.getpixel((1, 1))


def test_16_bits_of_three_colours_are_scaled(reader: PictureReader) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HHH", 0xFFFF, 0x8000, 0x0102)))
    picture = read(reader, b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b""))
    assert picture.getpixel((0, 0)) == (255, 128, 1)


@pytest.mark.parametrize(
    ("orientation", "size", "red_at", "blue_at"),
    [
        (1, (64, 32), (2, 2), (60, 2)),
        (2, (64, 32), (60, 2), (2, 2)),
        (3, (64, 32), (60, 2), (2, 2)),
        (4, (64, 32), (2, 2), (60, 2)),
        (5, (32, 64), (2, 2), (2, 60)),
        (6, (32, 64), (2, 2), (2, 60)),
        (7, (32, 64), (2, 60), (2, 2)),
        (8, (32, 64), (2, 60), (2, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("detail", ["auto", "low"])
def test_pictures_are_upright(
    reader: PictureReader,
    kind: str,
    detail: str,
    orientation: int,
    size: tuple[int, int],
    red_at: tuple[int, int],
    blue_at: tuple[int, int],
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(reader, picture_file(halves(), kind, exif=exif), detail=detail)
    assert picture.size == size
    assert near(picture.getpixel(red_at), (255, 0, 0), 8)
    assert near(picture.getpixel(blue_at), (0, 0, 255), 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_low_detail_fits_into_512_pixels(reader: PictureReader, kind: str) -> None:
    file = picture_file(halves((2000, 1000)), kind)
    assert read(reader, file, detail="low").size == (512, 256)
    assert read(reader, file, detail="high").size == (2000, 1000)
    assert read(reader, picture_file(halves((60, 30)), kind), detail="low").size == (60, 30)


def test_of_an_animation_the_first_frame_is_seen(reader: PictureReader) -> None:
    frames = {"save_all": True, "append_images": [plain("blue")], "duration": 100}
    for kind in ("GIF", "WEBP", "PNG"):
        assert near(read(reader, picture_file(plain("red"), kind, **frames)).getpixel((1, 1)), (255, 0, 0), 4), kind


def test_equal_files_are_decoded_once(reader: PictureReader) -> None:
    red, blue = picture_file(plain("red")), picture_file(plain("blue"))
    media = [Media("image", file, 0, f"p{i}") for i, file in enumerate((red, blue, bytes(bytearray(red))))]
    first, second, third = reader.read(media)
    assert first is third
    assert first is not second


def test_no_picture_needs_no_process() -> None:
    reader = PictureReader(MediaLimits())
    assert reader.read([]) == []
    assert reader._process.pid is None


WHOLE = {kind: picture_file(halves((256, 256)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")}


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\0" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        b"<!doctype html><html></html>",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        picture_file(plain(), "BMP"),
        picture_file(plain(), "TIFF"),
        picture_file(plain(), "PPM"),
        picture_file(plain(), "ICO"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        *[file[: len(file) // 2] for file in WHOLE.values()],
        *[file[:20] for file in WHOLE.values()],
        WHOLE["PNG"][:60] + b"\xff" * 40 + WHOLE["PNG"][100:],
        png(8, 8, pixels=b"\0" * 5),
    ],
    ids=lambda file: repr(file[:12]),
)
def test_what_is_no_whole_picture_is_refused(reader: PictureReader, file: bytes) -> None:
    assert refusal(reader, file) == f"`{PARAM}`: this {UNREADABLE}."


def test_a_damaged_orientation_is_no_reason_to_refuse(reader: PictureReader) -> None:
    file = picture_file(plain(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert read(reader, file).size == (8, 4)


@pytest.mark.parametrize(("width", "height"), [(2001, 2000), (1, 4_000_001), (1 << 31 - 1, 1), (1 << 20, 1 << 20)])
def test_too_many_pixels_are_refused_by_the_header(reader: PictureReader, width: int, height: int) -> None:
    message = refusal(reader, png(width, height))
    assert message == f"`{PARAM}`: the picture has {width} x {height} pixels; at most 4000000 are allowed."


def test_as_many_pixels_as_allowed_are_read(reader: PictureReader) -> None:
    assert read(reader, picture_file(Image.new("1", (2000, 2000)))).size == (2000, 2000)


def test_a_compressed_profile_that_grows_is_refused(reader: PictureReader) -> None:
    profile = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"\0" * (200 << 20), 9))
    assert UNREADABLE in refusal(reader, png(1, 1, profile, pixels=b"\0\0"))


def test_a_picture_that_takes_too_long_ends_only_its_request() -> None:
    reader = PictureReader(MediaLimits(decode_s=1.0))
    try:
        assert read(reader, picture_file(plain())).size == (8, 4)
        pid = reader._process.pid
        assert "decoding it took longer than 1 seconds" in refusal(reader, many_scans(8000, 190))
        assert read(reader, picture_file(plain())).size == (8, 4)
        assert reader._process.pid != pid
    finally:
        reader.close()


def test_the_time_is_for_all_pictures_of_a_request() -> None:
    reader = PictureReader(MediaLimits(decode_s=1.0))
    slow = many_scans(8000, 190)
    media = [Media("image", slow + bytes([i]), 0, f"p{i}") for i in range(50)]
    try:
        with pytest.raises(InvalidRequest) as caught:
            reader.read(media)
        assert caught.value.param == "p0"
    finally:
        reader.close()


def test_a_picture_of_very_many_scans_is_refused(reader: PictureReader) -> None:
    assert "more than 200 scans" in refusal(reader, many_scans(8, 250))
    assert read(reader, many_scans(8, 150)).size == (8, 8)
    in_a_comment = picture_file(plain(), "JPEG", comment=b"\xff\xda" * 300)
    assert read(reader, in_a_comment + b"\xff\xda" * 300).size == (8, 4)


def test_a_process_that_died_is_replaced(reader: PictureReader) -> None:
    assert read(reader, picture_file(plain())).size == (8, 4)
    assert reader._process._process is not None
    reader._process._process.kill()
    reader._process._process.wait()
    assert read(reader, picture_file(plain())).size == (8, 4)


def test_the_process_loads_neither_mlx_nor_transformers() -> None:
    code = (
        "import sys, mlx_server.workers.engine.media.picture_child\n"
        "print(sorted({'PIL', 'mlx', 'mlx_vlm', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['PIL']"
