"""What stands in a model's text beside its answer: reasoning and function calls, told apart by their marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Said:
    """Visible text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A part of the call number `call`, counted from 0. `name` comes with its first part only."""

    call: int
    arguments: str
    name: str | None = None


Piece = Said | Thought | Called


class Markup(Protocol):
    """Takes one sequence's text in pieces, wherever those are cut, and tells its parts apart."""

    @property
    def thinking(self) -> bool:
        """What comes now is reasoning."""

    @property
    def complete(self) -> bool:
        """Nothing more is wanted: the one call that was allowed has been made."""

    @property
    def calls(self) -> int:
        """How many calls have been made whole."""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain after more text; marks are dropped."""

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """What was held back, at the end of the text. Calls that are open are closed, unless the text was `cut`."""


class PlainText:
    """Text without marks."""

    thinking = False
    complete = False
    calls = 0

    def feed(self, text: str) -> list[Piece]:
        """The text as it is."""
        return [Said(text)] if text else []

    def flush(self, *, cut: bool = False) -> list[Piece]:
        """Nothing is held back."""
        return []
