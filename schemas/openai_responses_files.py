"""The text of files that stand in a conversation."""

from __future__ import annotations

import base64
import binascii
from html import escape
from urllib.parse import unquote_to_bytes

from mlx_server.schemas.errors import InvalidRequest

PDF = b"%PDF-"


def text_of_file(data: str, name: str | None, where: str) -> str:
    """The text of a file, marked as a file's. Raises InvalidRequest for a file that is no text."""
    content = content_of(data, f"{where}.file_data")
    if content.startswith(PDF):
        raise unreadable(where, "a PDF")
    try:
        text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        raise unreadable(where, "no text") from None
    if "\0" in text:
        raise unreadable(where, "no text")
    title = f' title="{escape(name)}"' if name else ""
    return f"<document{title}>\n{text}\n</document>\n"


def content_of(data: str, where: str) -> bytes:
    """The bytes of a data URL, or of plain base64. Raises InvalidRequest."""
    head, comma, body = data.partition(",")
    if not comma or not head.startswith("data:"):
        head, body = ";base64", data
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"`{where}`: this is no base64, nor a data URL.", where) from None


def unreadable(where: str, what: str) -> InvalidRequest:
    """Why a file can't be read."""
    message = f"`{where}.file_data`: this file is {what}; text in UTF-8 or UTF-16 is needed."
    return InvalidRequest(message, f"{where}.file_data")
