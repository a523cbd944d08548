"""Tokens of one sequence as text, up to the first stop string."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Protocol


class Detokenizer(Protocol):
    """mlx-lm's streaming detokenizer: text that is certain after each token, and the rest after `finalize`."""

    @property
    def last_segment(self) -> str:
        """The text that became certain since the last look."""

    def add_token(self, token: int) -> None:
        """Take one more token."""

    def finalize(self) -> None:
        """Note that no more tokens come."""


def follow(detokenizer: Detokenizer, tokens: list[int]) -> None:
    """Put a detokenizer behind `tokens` and drop their text: the next token keeps the space that it begins with."""
    for token in tokens:
        detokenizer.add_token(token)
    detokenizer.finalize()
    _ = detokenizer.last_segment


class StopScanner:
    """Finds the first complete stop string in a text that comes in pieces, wherever they are cut."""

    def __init__(self, stops: tuple[str, ...], *, include: bool = False) -> None:
        self._stops = stops
        self._include = include
        self._held = ""
        self.met: str | None = None
        """The stop string that ended the text."""

    def feed(self, piece: str) -> str:
        """The text that certainly stands before any stop string; with `include`, the stop string too."""
        if self.met is not None:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        hits = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if hits:
            end, start, self.met = min(hits)
            self._held = ""
            return text[: end if self._include else start]
        keep = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text that was held back because a stop string might have begun in it."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """The length of the longest proper prefix of `stop` that `text` ends with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class DetokenizedText:
    """A sequence's text from a detokenizer; tokens in `silent` have no text."""

    def __init__(self, detokenizer: Detokenizer, silent: Container[int]) -> None:
        self._detokenizer = detokenizer
        self._silent = silent

    def add(self, token: int) -> str:
        """The text that is certain after one more token."""
        if token in self._silent:
            return ""
        self._detokenizer.add_token(token)
        return self._detokenizer.last_segment

    def finish(self) -> str:
        """The text that was held back."""
        self._detokenizer.finalize()
        return self._detokenizer.last_segment


def unknown_tokens(tokenizer: Any, vocab_size: int) -> frozenset[int]:
    """Ids of the model's vocabulary that the tokenizer does not know."""
    return frozenset(range(vocab_size)) - set(tokenizer.get_vocab().values())
