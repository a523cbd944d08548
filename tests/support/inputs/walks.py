"""Documents that a schema's grammar allows, without a model: at random, or whether it takes a given one."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from mlx_server.workers.engine.grammar.distinct import DistinctMatcher, Matcher, Words
from mlx_server.workers.engine.grammar.json_schema import enforceable
from mlx_server.workers.engine.grammar.json_watch import JsonWatch
from mlx_server.workers.engine.grammar.schema_search import source_of_schema

PIECES = ['", "', '"a"', ", ", '"]', "}, {", "1, 1", "true", ', "a"', '{"a": 1', "[]", "10", '": ', "USD", '["', ' "']
"""Tokens of several bytes: such as end one thing and begin another."""

TEXTS = [bytes([byte]) for byte in range(256)] + [piece.encode() for piece in PIECES]
END = len(TEXTS)
LIKELY = frozenset(range(0x20, 0x7F)) | frozenset(range(256, END))
CLOSING = tuple(text[:1] in (b'"', b"}", b"]", b",") for text in TEXTS)


class _Tokens:
    eos_token_id = END
    bos_token_id = None
    tokens = [*TEXTS, b"<end>"]  # noqa: RUF012 - as llguidance asks for it
    special_token_ids = [END]  # noqa: RUF012

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENIZER = LLTokenizer(TokenizerWrapper(_Tokens()), n_vocab=END + 1)
WORDS = Words(TEXTS, len(LLMatcher(TOKENIZER, LLMatcher.grammar_from_regex("a")).compute_bitmask()))


def matcher_of(schema: dict[str, Any], *, guaranteed: bool = True) -> Matcher:
    """A schema's matcher, as a worker makes it."""
    made = enforceable(schema, "p", guaranteed=guaranteed).schema
    matcher = LLMatcher(TOKENIZER, source_of_schema(made), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return DistinctMatcher(matcher, JsonWatch({b"": made}), WORDS)


def takes(matcher: Matcher, document: Any) -> bool:
    """Whether a document is allowed, byte by byte as `json.dumps` writes it."""
    matcher = matcher.deep_copy()
    for byte in json.dumps(document, ensure_ascii=False).encode():
        if not bits(matcher)[byte] or not matcher.consume_token(byte):
            return False
    return matcher.is_accepting()


def bits(matcher: Matcher) -> Any:
    """Which tokens are allowed."""
    return np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")


def written(matcher: Matcher, seed: int, most: int = 3000) -> str | None:
    """A document drawn at random, with a leaning to its end; None if that did not come."""
    rng = random.Random(seed)
    matcher, text = matcher.deep_copy(), b""
    for _ in range(most):
        if matcher.is_stopped():
            return text.decode()
        allowed = np.flatnonzero(bits(matcher)).tolist()
        assert allowed, text
        if END in allowed and rng.random() < 0.5:
            return text.decode()
        open_ = [token for token in allowed if token in LIKELY] or [token for token in allowed if token != END]
        closing = [token for token in open_ if CLOSING[token]]
        token = rng.choice(closing if closing and rng.random() < 0.4 else open_)
        assert matcher.consume_token(token), text
        text += TEXTS[token]
    return None
