"""A form that can't be taken leaves no file behind, however it ends."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from mlx_server.app.http.multipart import MOST_FIELD_BYTES, Form, read_form
from mlx_server.schemas.internal.errors import InvalidRequest

LIMIT_BYTES = 100_000
PART = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n'
FILE = PART % b"file" + 70_000 * b"a"
END = {"type": "http.request", "body": b"", "more_body": False}
ENDINGS: dict[str, tuple[Message, type[Exception]]] = {
    "cut short": (END, InvalidRequest),
    "malformed": ({"type": "http.request", "body": b"\r\n--x?"}, InvalidRequest),
    "too large": ({"type": "http.request", "body": FILE}, HTTPException),
    "left": ({"type": "http.disconnect"}, ClientDisconnect),
}


@pytest.fixture
def collector_off() -> Iterator[None]:
    """Nothing may wait for the garbage collector, which comes seldom."""
    gc.disable()
    yield
    gc.enable()


async def read(folder: Path, *messages: Message) -> Form:
    """A form that came in these pieces, closed."""
    return await read_coming(folder, iter(messages), LIMIT_BYTES)


async def read_coming(folder: Path, coming: Iterator[Message], limit_bytes: int) -> Form:
    """A form that came in pieces, closed."""

    async def receive() -> Message:
        return next(coming)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    form = await read_form(Request({"type": "http", "headers": headers}, receive), folder, limit_bytes)
    form.close()
    return form


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("before", [b"", PART % b"other" + b"whole\r\n"], ids=["the only file", "the second file"])
def test_form_that_is_not_taken_leaves_no_file(tmp_path: Path, before: bytes, ending: str) -> None:
    last, refusal = ENDINGS[ending]
    with pytest.raises(refusal):
        asyncio.run(read(tmp_path, {"type": "http.request", "body": before + FILE, "more_body": True}, last, END))
    assert list(tmp_path.iterdir()) == []


def test_file_that_nobody_chose_is_not_given(tmp_path: Path) -> None:
    unchosen = b'--x\r\nContent-Disposition: form-data; name="mask"; filename=""\r\n\r\n\r\n'
    body = unchosen + FILE + b"\r\n--x--\r\n"
    form = asyncio.run(read(tmp_path, {"type": "http.request", "body": body, "more_body": True}, END))
    assert form.files.keys() == {"file"}


def test_form_that_is_closed_leaves_no_file(tmp_path: Path) -> None:
    asyncio.run(read(tmp_path, {"type": "http.request", "body": FILE + b"\r\n--x--\r\n", "more_body": True}, END))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["binary", "base64", "quoted-printable"])
def test_text_that_is_too_long_is_refused_while_it_comes(tmp_path: Path, encoding: str) -> None:
    head = f'--x\r\nContent-Transfer-Encoding: {encoding}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
    pieces = [head.encode(), *(160 * [MOST_FIELD_BYTES // 2 * b"a"])]
    coming: Iterator[Message] = iter([{"type": "http.request", "body": one, "more_body": True} for one in pieces])
    with pytest.raises(InvalidRequest) as caught:
        asyncio.run(read_coming(tmp_path, coming, 1 << 30))
    assert caught.value.param == "prompt"
    assert len(list(coming)) > 150
