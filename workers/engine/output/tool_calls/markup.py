"""The parts of a model's text: what is visible, reasoning, and function calls, told apart by their marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class VisibleText:
    """Visible text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A part of call number `call`, counted from 0. `name` comes with its first part only."""

    call: int
    arguments: str
    name: str | None = None


Piece = VisibleText | Thought | Called


class Markup(Protocol):
    """A parser of one sequence's text, which comes in pieces that may be cut anywhere."""

    @property
    def thinking(self) -> bool:
        """Whether the next text is reasoning."""

    @property
    def complete(self) -> bool:
        """Whether the one call that was allowed has been made, so that nothing more is wanted."""

    @property
    def calls(self) -> int:
        """The number of complete calls."""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain after more text; marks are dropped."""

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """The pieces that were held back, at the end of the text. Open calls are closed, unless the text was `cut`."""


class PlainText:
    """Text without marks."""

    thinking = False
    complete = False
    calls = 0

    def feed(self, text: str) -> list[Piece]:
        """The text as it is."""
        return [VisibleText(text)] if text else []

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """Nothing is held back."""
        return []
