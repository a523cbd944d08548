"""Embeddings as the tests look at them."""

from __future__ import annotations

import base64
import struct
from typing import Any

EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
SCORE = "/v1/score"


def floats_of(text: str) -> list[float]:
    """What base64 text holds: little-endian 32-bit floats."""
    raw = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def vectors_of(answer: dict[str, Any]) -> list[list[float]]:
    """The vectors of an answer, whose indices have to be in order."""
    assert [one["index"] for one in answer["data"]] == list(range(len(answer["data"])))
    return [one["embedding"] for one in answer["data"]]
