"""Documents: what their files say, and what no file may do to the server."""

import asyncio
import io
import zlib
from collections.abc import Callable

import psutil
import pytest
from PIL import Image
from pypdf import PdfWriter
from support.documents import pdf, scanned

from mlx_server.app.media.document_limits import DocumentLimits
from mlx_server.app.media.documents import BLANK, CHILD, NO_TEXT, ONLY_PICTURES, DocumentReader
from mlx_server.schemas.internal.documents import Illustrated
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Remote

PARAM = "messages[0].content[1]"


def read(file: bytes, limit_s: float = 20.0) -> str:
    told = asyncio.run(DocumentReader(limit_s, DocumentLimits()).text(file, PARAM, "me"))
    assert not told.pictures
    return told.text


def look(file: bytes, limits: DocumentLimits | None = None) -> Illustrated:
    """What a model that sees is shown."""
    reader = DocumentReader(20.0, limits or DocumentLimits(most_pictures=2))
    return asyncio.run(reader.text(file, PARAM, "me", seen=True))


def scan(colour: str, size: tuple[int, int] = (60, 80)) -> Image.Image:
    """White paper with a square in the middle."""
    page = Image.new("RGB", size, "white")
    page.paste(colour, (20, 30, 40, 50))
    return page


def joined(*files: bytes) -> bytes:
    writer, file = PdfWriter(), io.BytesIO()
    for one in files:
        writer.append(io.BytesIO(one))
    writer.write(file)
    return file.getvalue()


def locked() -> bytes:
    writer, file = PdfWriter(io.BytesIO(pdf("secret"))), io.BytesIO()
    writer.encrypt("key", algorithm="RC4-128")
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (pdf("Hello there", "Größe"), "Hello there\n\nGröße"),
        (b"\n" + pdf("late mark"), "late mark"),
        ("# Größe\n".encode(), "# Größe\n"),
        ("\ufeffa".encode(), "a"),
        ("Größe".encode("utf-16"), "Größe"),
    ],
    ids=["pdf", "late mark", "utf-8", "with a mark", "utf-16"],
)
def test_file_gives_its_text(file: bytes, text: str) -> None:
    assert read(file) == text


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"\x89PNG\r\n\x1a\n", NO_TEXT),
        (lambda: b"a\0b", NO_TEXT),
        (lambda: b"%PDF-1.4\nnonsense", "this PDF can't be read"),
        (lambda: pdf("a")[:200], "this PDF can't be read"),
        (lambda: pdf(""), ONLY_PICTURES),
        (lambda: pdf(*["a"] * 1001), "has 1001 pages; at most 1000"),
        (locked, "with a password only"),
        (lambda: pdf("a", packed=zlib.compress(bytes(256 << 20), 1)), "this PDF can't be read"),
    ],
    ids=["picture", "zeros", "nonsense", "cut off", "no text", "pages", "locked", "bomb"],
)
def test_file_without_a_text_that_can_be_had_is_refused(make: Callable[[], bytes], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(make())
    assert why in caught.value.message
    assert caught.value.param == PARAM


def test_reading_has_its_time() -> None:
    content = zlib.compress(b"BT (a) Tj ET " * 2_000_000)
    with pytest.raises(InvalidRequest, match=r"took longer than 0\.5 seconds"):
        read(pdf("a", packed=content), limit_s=0.5)


def test_what_was_read_is_known_and_no_process_stays() -> None:
    async def twice() -> list[dict[Document, Illustrated]]:
        reader = DocumentReader(20.0, DocumentLimits())
        remote = Remote("https://x.io/a.pdf")
        given = [Document(remote, 0, PARAM), Document(b"text", 0, PARAM)]
        files = {remote: pdf("Hello")}
        return [await reader.texts(given, files, "me") for _ in range(2)]

    first, second = asyncio.run(twice())
    assert list(first.values()) == [Illustrated("Hello"), Illustrated("text")]
    assert first == second
    assert not [child for child in psutil.Process().children() if CHILD in child.cmdline()]


def test_pages_without_text_are_pictures_between_the_texts_of_others() -> None:
    told = look(joined(pdf("one"), scanned(scan("red")), pdf("three", ""), scanned(scan("blue"))))
    assert told.text.split() == ["one", "three"]
    assert [told.text[:at].split() for at, _ in told.pictures] == [["one"], ["one", "three"]]
    shown = [Image.open(io.BytesIO(file)) for _, file in told.pictures]
    assert [one.format for one in shown] == ["PNG", "PNG"]
    assert [one.width for one in shown] == pytest.approx([125, 125], abs=1), "150 dots per inch"
    red, blue = (one.convert("RGB").getpixel((62, 83)) for one in shown)
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 200 > 50 > red[2]
    assert blue[2] > 200 > 50 > blue[0]


def test_pdf_with_text_is_the_same_for_a_model_that_sees() -> None:
    assert look(pdf("Hello there", "", "you")) == Illustrated(read(pdf("Hello there", "", "you")))


def test_a_white_scan_is_shown() -> None:
    assert len(look(scanned(Image.new("RGB", (60, 80), "white"))).pictures) == 1


def test_pictures_are_made_for_models_that_see_only() -> None:
    async def both(file: bytes) -> None:
        reader = DocumentReader(20.0, DocumentLimits())
        assert (await reader.text(file, PARAM, "me", seen=True)).pictures
        with pytest.raises(InvalidRequest, match=ONLY_PICTURES):
            await reader.text(file, PARAM, "me")

    asyncio.run(both(scanned(scan("red"))))


@pytest.mark.parametrize(
    ("make", "limits", "why"),
    [
        (lambda: scanned(*[scan("red")] * 3), DocumentLimits(most_pictures=2), "more than 2 pages of the PDF have no"),
        (lambda: scanned(scan("red")), DocumentLimits(most_bytes=100), "are larger than 100 bytes"),
        (lambda: pdf("", ""), DocumentLimits(), BLANK),
    ],
    ids=["pages", "bytes", "blank"],
)
def test_scan_over_a_limit_is_refused(make: Callable[[], bytes], limits: DocumentLimits, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        look(make(), limits)
    assert caught.value.param == PARAM


def test_all_pictures_of_a_request_have_their_bytes_together() -> None:
    files = [scanned(scan("red")), scanned(scan("blue"))]
    size = sum(len(picture) for file in files for _, picture in look(file).pictures)
    documents = [Document(file, 0, f"{PARAM}[{number}]") for number, file in enumerate(files)]
    reader = DocumentReader(20.0, DocumentLimits(most_bytes=size - 1))
    with pytest.raises(InvalidRequest, match="max-body-bytes") as caught:
        asyncio.run(reader.texts(documents, {}, "me", documents))
    assert caught.value.param == f"{PARAM}[1]"


@pytest.mark.parametrize(("size", "most"), [((60, 80), 400), ((5000, 60), 64_000_000), ((60, 14_000), 64_000_000)])
def test_picture_of_a_page_has_no_more_pixels_than_allowed(size: tuple[int, int], most: int) -> None:
    [(_, file)] = look(scanned(scan("red", size)), DocumentLimits(most_pixels=most)).pictures
    with Image.open(io.BytesIO(file)) as shown:
        assert shown.width * shown.height <= most
        assert max(shown.size) <= 2048
