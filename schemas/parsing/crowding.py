"""How many values a body may hold: bytes are not what decoding costs, and every stream waits while it is done."""

from __future__ import annotations

from mlx_server.schemas.internal.errors import InvalidRequest

# What is counted, and how many of it may be there. The last is for prompts that are a million token ids.
BOUNDS: tuple[tuple[str, tuple[bytes, ...], int], ...] = (
    ("objects and lists", (b"{", b"["), 100_000),
    ("fields in objects", (b":",), 300_000),
    ("items and fields", (b",",), 1_100_000),
)
MAX_QUOTES = 2 * (300_000 + 1_100_000)
"""No JSON within the bounds has more."""


def refuse_crowded(body: bytes) -> None:
    """Raise InvalidRequest for JSON that holds too many values. Quick: nothing is decoded."""
    if crowded(body) is None:
        return
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > MAX_QUOTES:
        raise InvalidRequest(f"The body holds more than {MAX_QUOTES // 2} strings.")
    if (what := crowded(b"".join(unescaped.split(b'"')[::2]))) is not None:
        name, most = what
        raise InvalidRequest(f"The body holds more than {most} {name}.")


def crowded(text: bytes) -> tuple[str, int] | None:
    """What there is too much of, and how much would be allowed."""
    for name, marks, most in BOUNDS:
        if len(text) > most and sum(text.count(mark) for mark in marks) > most:
            return name, most
    return None
