"""Tokenizers that are Transformers' own code: what is asked of a fast one, for single texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Encoded(NamedTuple):
    """Token ids, and for each 0 if it is of the text, None if it is special."""

    ids: list[int]
    sequence_ids: list[int | None]


class SlowTokenizer:
    """Stands for a fast tokenizer that neither pads nor cuts. It is not known where in a text a token is."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoded:
        """The tokens of a text."""
        ids = self._tokenizer.encode(text, add_special_tokens=add_special_tokens, verbose=False)
        special = self._tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
        return Encoded(ids, [None if mark else 0 for mark in special])

    def encode_batch(self, texts: Iterable[str]) -> list[Encoded]:
        """The tokens of each text."""
        return [self.encode(text) for text in texts]
