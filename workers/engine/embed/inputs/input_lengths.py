"""How long an input may be, and what of a long one is worth tokenising, which takes seconds for megabytes."""

from __future__ import annotations

from typing import Any, Literal

from mlx_server.schemas.internal.embedding import Truncation
from mlx_server.schemas.internal.errors import InvalidRequest

SHORTEN = "Shorten it or send truncate_prompt_tokens."
SLACK = 4
"""A text that is to be cut has so many times the characters of the longest tokens at least: most are far shorter."""
MORE_CHARACTERS = 1024
"""What is tokenised beyond that, as tokenizers drop spaces, and make one token of a word that they don't know."""


class InputLengths:
    """Judges texts by their characters. `longest_token` is how many the vocabulary's longest token has."""

    def __init__(self, longest_token: int) -> None:
        self._longest_token = longest_token

    def check(
        self, text: str, field: str, most: int | None, truncation: Truncation | None, what: str = SHORTEN
    ) -> None:
        """Refuse what can't fit, before it is tokenised. Raises InvalidRequest."""
        if most is None or len(text) // self._longest_token <= most:
            return
        if len(text) > self._enough(most):
            raise too_long(field, f"{len(text)} characters", most, truncation, what)
        # Tokenizers may drop spaces.
        least = sum(map(len, text.split())) // self._longest_token
        if least > most:
            raise too_long(field, f"at least {least} tokens", most, truncation, what)

    def part(self, text: str, most: int | None, keep: Literal["start", "end"]) -> str:
        """What is enough of a text of which `most` tokens are kept. Long spaces on the kept side count as text."""
        if most is None or len(text) <= self._enough(most):
            return text
        return text[: self._enough(most)] if keep == "start" else text[-self._enough(most) :]

    def _enough(self, tokens: int) -> int:
        return tokens * self._longest_token * SLACK + MORE_CHARACTERS


def lengths_of(tokenizer: Any) -> InputLengths:
    """For the texts of a tokenizer, by its vocabulary."""
    return InputLengths(max(map(len, tokenizer.get_vocab())))


def too_long(
    field: str, length: int | str, most: int, truncation: Truncation | None = None, what: str = SHORTEN
) -> InvalidRequest:
    """The refusal of an input that can't be taken whole; `most` is set by the request's `truncation` or the model."""
    has = f"{length} tokens" if isinstance(length, int) else length
    if truncation is not None and truncation.tokens == most:
        bound = f"at most {most} tokens are allowed here (`{truncation.param}`)"
    else:
        bound = f"this model takes {most}" if has.endswith("tokens") else f"this model takes {most} tokens"
    message = f"`{field}` has {has}; {bound}. {what}"
    return InvalidRequest(message, field, "context_length_exceeded")
