"""Forms of any bytes, in any pieces: read, or refused as the client's fault, and no file is left."""

import asyncio
import contextlib
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from mlx_server.app.http.multipart import read_form
from mlx_server.schemas.internal.errors import InvalidRequest

GOOD = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
    b"Content-Type: text/plain\r\n\r\nabc\r\n--x--\r\n"
)
KIND = b"multipart/form-data; boundary=x"
HEADS = st.binary(max_size=60) | st.binary(max_size=20).map(lambda rest: KIND + rest)


async def read(folder: Path, kind: bytes, pieces: list[bytes]) -> None:
    """Read a form that comes in these pieces, which may be refused."""
    last: Message = {"type": "http.request", "body": b"", "more_body": False}
    coming = iter([*({"type": "http.request", "body": piece, "more_body": True} for piece in pieces), last])

    async def receive() -> Message:
        return next(coming)

    with contextlib.suppress(InvalidRequest, HTTPException):
        form = await read_form(Request({"type": "http", "headers": [(b"content-type", kind)]}, receive), folder, 10_000)
        for uploads in form.files.values():
            assert all(Path(upload.path).parent == form.folder and isinstance(upload.name, str) for upload in uploads)
        form.close()


def check(kind: bytes, content: bytes, cuts: list[int]) -> None:
    """It is read or refused, in these pieces, and nothing is left."""
    ends = sorted({min(cut, len(content)) for cut in cuts} | {len(content)})
    pieces = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(read(Path(folder), kind, pieces))
        assert not list(Path(folder).iterdir())


CUTS = st.lists(st.integers(0, 250), max_size=4)


@given(at=st.integers(0, len(GOOD)), new=st.binary(max_size=12), dropped=st.integers(0, 12), cuts=CUTS)
def test_changed_forms_are_read_or_refused(at: int, new: bytes, dropped: int, cuts: list[int]) -> None:
    check(KIND, GOOD[:at] + new + GOOD[at + dropped :], cuts)


@given(kind=HEADS, content=st.binary(max_size=200) | st.just(GOOD), cuts=CUTS)
def test_any_bytes_with_any_head_are_read_or_refused(kind: bytes, content: bytes, cuts: list[int]) -> None:
    check(kind, content, cuts)
