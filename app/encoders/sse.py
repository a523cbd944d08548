"""Server-sent events (WHATWG HTML, 9.2)."""

from __future__ import annotations

import msgspec

from mlx_server.app.http.errors import Answer

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def event(chunk: msgspec.Struct) -> bytes:
    """One event whose data is JSON on one line."""
    return b"data: " + _encode(chunk) + b"\n\n"


def named_event(name: str, data: msgspec.Struct) -> bytes:
    """One event with a name."""
    return named_data(name, _encode(data))


def named_data(name: str, data: bytes) -> bytes:
    """The same for data that is JSON already."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def split(data: bytes) -> list[bytes]:
    """The events that were written one after the other; none has an empty line inside."""
    return [part + b"\n\n" for part in data.split(b"\n\n")[:-1]]


def is_comment(data: bytes) -> bool:
    """It is a line that says nothing, which readers pass over."""
    return data.startswith(b":")


def error(answer: Answer) -> bytes:
    """A failure after bytes have flowed, as OpenAI's SDKs look for it: a data event with an error object."""
    return b"data: " + answer.body() + b"\n\n"
