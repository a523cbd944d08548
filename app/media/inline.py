"""Files that stand in the request itself, as data URLs (RFC 2397)."""

from __future__ import annotations

import binascii
from urllib.parse import unquote_to_bytes

from mlx_server.app.media.problem import MediaProblem, TooLarge

PIECE_CHARS = 4 << 18
"""Other threads get their turn between pieces of this size."""

URL_SAFE = bytes.maketrans(b"-_", b"+/")
NO_BASE64 = "this is neither an http, https, file or data URL nor base64"


def decode(url: str, most_bytes: int) -> bytes:
    """The bytes in a data URL. Raises MediaProblem.

    Base64 may come without its padding, in its URL-safe alphabet, percent-encoded and with white space in it.
    """
    head, comma, text = url.partition(",")
    if not comma:
        raise MediaProblem("this is no data URL: 'data:image/png;base64,...' would be one")
    if not head.lower().rstrip().endswith(";base64"):
        return bounded(unquote_to_bytes(text), most_bytes)
    if len(text) // 4 * 3 > 2 * most_bytes + 1024:  # it can't get so short by what is taken out of it
        raise TooLarge(most_bytes)
    if not text.isascii():
        raise MediaProblem(NO_BASE64)
    data = unquote_to_bytes(text) if "%" in text else text.encode()
    data = data.translate(URL_SAFE, b" \t\r\n\f\v").rstrip(b"=")
    if len(data) // 4 * 3 > most_bytes:
        raise TooLarge(most_bytes)
    return bounded(from_base64(data + b"=" * (-len(data) % 4)), most_bytes)


def from_base64(data: bytes) -> bytes:
    """Strict base64. Raises MediaProblem."""
    pieces = (data[i : i + PIECE_CHARS] for i in range(0, len(data), PIECE_CHARS))
    try:
        return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in pieces)
    except binascii.Error:
        raise MediaProblem(NO_BASE64) from None


def bounded(data: bytes, most_bytes: int) -> bytes:
    """The data. Raises MediaProblem if there is none, or too much."""
    if not data:
        raise MediaProblem("the file is empty")
    if len(data) > most_bytes:
        raise TooLarge(most_bytes)
    return data
