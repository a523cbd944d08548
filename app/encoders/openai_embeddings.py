"""`/v1/embeddings`."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator

import msgspec

from mlx_server.app.encoders.head import Head
from mlx_server.schemas.internal.messages import Finished, Score, Vector
from mlx_server.schemas.openai.embeddings import Embedding, EmbeddingsAnswer, EmbeddingsRequest, PromptUsage

FLOAT_BYTES = 4
PIECE_BYTES = 1 << 15
"""Of vectors. To write them as numbers takes less than a millisecond."""


class EmbeddingsEncoder:
    """One answer, made piece by piece: thousands of vectors are millions of numbers."""

    def __init__(self, head: Head, given: EmbeddingsRequest) -> None:
        self._model = head.model
        self._format = base64_of if given.encoding_format == "base64" else numbers_of

    def pieces(self, results: list[Vector | Score], finished: Finished) -> Iterator[bytes]:
        """The answer, a few vectors at a time."""
        usage = PromptUsage(finished.prompt_tokens, finished.prompt_tokens)
        opening, _, closing = msgspec.json.encode(EmbeddingsAnswer("list", [], self._model, usage)).partition(b"]")
        vectors = [result for result in results if isinstance(result, Vector)]
        at_once = max(1, PIECE_BYTES // len(vectors[0].values))
        for start in range(0, len(vectors), at_once):
            end = start + at_once
            before = b"," if start else opening
            after = b"" if end < len(vectors) else b"]" + closing
            yield before + self._list(vectors[start:end]) + after

    def _list(self, vectors: list[Vector]) -> bytes:
        """Without the brackets."""
        return msgspec.json.encode([Embedding("embedding", self._format(v.values), v.index) for v in vectors])[1:-1]


def base64_of(values: bytes) -> str:
    """The bytes as they are."""
    return binascii.b2a_base64(values, newline=False).decode()


def numbers_of(values: bytes) -> tuple[float, ...]:
    """Each float as the double of the same value: as JSON it is exact, and what a client makes of the base64 form."""
    return struct.unpack(f"<{len(values) // FLOAT_BYTES}f", values)
