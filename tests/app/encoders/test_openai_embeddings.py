"""Embeddings as JSON: exact, complete, and in pieces that are not large."""

import json
import random
import struct

import pytest
from support.tiny.vectors import floats_of, vectors_of

from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_embeddings import PIECE_BYTES, EmbeddingsEncoder
from mlx_server.schemas.internal.messages import Finished, Vector
from mlx_server.schemas.openai.embeddings import EmbeddingsRequest

FLOATS = 256
AT_ONCE = PIECE_BYTES // (4 * FLOATS)
DONE = Finished(1, 0, "stop", 5, 0, 0)


def encode(count: int, encoding_format: str = "float", floats: int = FLOATS) -> tuple[list[Vector], list[bytes]]:
    rnd = random.Random(count)
    values = [struct.pack(f"<{floats}f", *(rnd.gauss(0, 1) for _ in range(floats))) for _ in range(count)]
    vectors = [Vector(1, index, packed) for index, packed in enumerate(values)]
    given = EmbeddingsRequest(input="a", encoding_format="base64" if encoding_format == "base64" else None)
    return vectors, list(EmbeddingsEncoder(Head("id", 0, "m"), given).pieces([*vectors], DONE))


@pytest.mark.parametrize("count", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE, 2 * AT_ONCE + 1])
@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_pieces_together_are_the_answer(count: int, encoding_format: str) -> None:
    vectors, pieces = encode(count, encoding_format)
    assert len(pieces) == -(-count // AT_ONCE)
    answer = json.loads(b"".join(pieces))
    found = vectors_of(answer)
    if encoding_format == "base64":
        found = [floats_of(text) for text in found]  # type: ignore[arg-type]
    assert [struct.pack(f"<{FLOATS}f", *one) for one in found] == [vector.values for vector in vectors]
    assert (answer["model"], answer["usage"]) == ("m", {"prompt_tokens": 5, "total_tokens": 5})


def test_vector_longer_than_a_piece_is_one() -> None:
    _, pieces = encode(2, floats=PIECE_BYTES)
    assert len(pieces) == 2


@pytest.mark.parametrize("value", [0.1, 1e-45, 3.4e38, -0.0, 1 / 3])
def test_numbers_are_exact(value: float) -> None:
    packed = struct.pack("<f", value)
    given = EmbeddingsRequest(input="a")
    [piece] = EmbeddingsEncoder(Head("id", 0, "m"), given).pieces([Vector(1, 0, packed)], DONE)
    [[number]] = vectors_of(json.loads(piece))
    assert struct.pack("<f", number) == packed
