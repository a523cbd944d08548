"""Documents: what their files say, and what no file may do to the server."""

import asyncio
import io
import zlib
from collections.abc import Callable

import psutil
import pytest
from pypdf import PdfWriter
from support.documents import pdf

from mlx_server.app.media.documents import CHILD, NO_TEXT, ONLY_PICTURES, DocumentReader
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, Remote

PARAM = "messages[0].content[1]"


def read(file: bytes, limit_s: float = 20.0) -> str:
    return asyncio.run(DocumentReader(limit_s).text(file, PARAM, "me"))


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
    async def twice() -> list[dict[Document, str]]:
        reader = DocumentReader(20.0)
        remote = Remote("https://x.io/a.pdf")
        given = [Document(remote, 0, PARAM), Document(b"text", 0, PARAM)]
        files = {remote: pdf("Hello")}
        return [await reader.texts(given, files, "me") for _ in range(2)]

    first, second = asyncio.run(twice())
    assert list(first.values()) == ["Hello", "text"]
    assert first == second
    assert not [child for child in psutil.Process().children() if CHILD in child.cmdline()]
