"""Embeddings and scores without a model: digests instead of meaning, so the same text has the same vector."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest, ScoreRequest, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import Result, Score, Vector
from mlx_server.workers.handlers.script import Script, begun, read_script
from mlx_server.workers.handlers.scripted_sequence import ResultsSequence

DIMENSIONS = 8


def embedding_sequence(ticket: int, request: EmbeddingRequest) -> ResultsSequence:
    """A request's embeddings. Every input may be a script. Raises InvalidRequest."""
    if (request.dimensions or 0) > DIMENSIONS:
        raise InvalidRequest(f"`dimensions`: the model has {DIMENSIONS}.", "dimensions")
    before = "".join(filter(None, (request.prompt, request.prompt_name, request.input_type)))
    tokens, results = 0, []
    for index, given in enumerate(request.inputs):
        words = cut(words_of(given), request.truncation)
        tokens += len(words)
        vector = vector_of(" ".join([before, *words]), given, request.dimensions or DIMENSIONS)
        results.append((script_of(given.content, given.param), Vector(ticket, index, vector)))
    return sequence_of(ticket, tokens, results)


def score_sequence(ticket: int, request: ScoreRequest) -> ResultsSequence:
    """A request's scores. Every document may be a script. Raises InvalidRequest."""
    tokens, results = 0, []
    for index, pair in enumerate(request.pairs):
        document = cut(pair.document.split(), request.truncation)
        tokens += len(pair.query.split()) + len(document)
        score = share_of(pair.query.split(), document)
        results.append((script_of(pair.document, pair.document_param), Score(ticket, index, score)))
    return sequence_of(ticket, tokens, results)


def sequence_of(ticket: int, tokens: int, results: Sequence[tuple[Script, Result]]) -> ResultsSequence:
    """The ticket's one sequence, of so many tokens of prompt."""
    script, _ = results[-1]
    return ResultsSequence((ticket, 0), [0] * tokens, len(results), script=script, results=list(results))


def script_of(content: str | tuple[int, ...], param: str) -> Script:
    """What happens to one text. Raises InvalidRequest."""
    return begun(read_script(content, param), param) if isinstance(content, str) else Script()


def words_of(given: EmbeddingInput) -> list[str]:
    """The tokens of an input: words, or the numbers that were given."""
    return given.content.split() if isinstance(given.content, str) else list(map(str, given.content))


def cut(words: list[str], truncation: Truncation | None) -> list[str]:
    """What is left of too many words."""
    if truncation is None or truncation.tokens is None:
        return words
    return words[: truncation.tokens] if truncation.keep == "start" else words[-truncation.tokens :]


def vector_of(text: str, given: EmbeddingInput, dimensions: int) -> bytes:
    """Numbers of length 1 from a digest, as little-endian float32."""
    digest = hashlib.blake2b(text.encode(), digest_size=4 * DIMENSIONS)
    for media in given.media:
        assert isinstance(media.source, bytes)
        digest.update(media.source)
    numbers = struct.unpack(f"<{DIMENSIONS}i", digest.digest())[:dimensions]
    length = math.hypot(*numbers)
    return struct.pack(f"<{dimensions}f", *(number / length for number in numbers))


def share_of(query: list[str], document: list[str]) -> float:
    """How many of a query's words the document has, from 0 to 1."""
    return sum(word in document for word in query) / max(1, len(query))
