"""Marks in a text that comes in pieces: which comes first, and how much of the text's end may become one."""

from __future__ import annotations

import re
from collections.abc import Iterable


class MarkerMatcher:
    """A fixed set of marks, compiled once. Of two marks where one stands inside the other only the inner is found."""

    def __init__(self, marks: Iterable[str]) -> None:
        given = sorted({mark for mark in marks if mark})
        self.marks = tuple(mark for mark in given if not any(other != mark and other in mark for other in given))
        self._whole = re.compile("|".join(map(re.escape, self.marks)) or r"(?!)")
        self._begun = re.compile(f"(?:{'|'.join(map(_beginnings, self.marks)) or '(?!)'})\\Z")

    def find(self, text: str, start: int = 0) -> tuple[int, str] | None:
        """Where the first mark stands, and which it is."""
        found = self._whole.search(text, start)
        return None if found is None else (found.start(), found.group())

    def held(self, text: str) -> int:
        """How many characters at the text's end may be a mark's beginning."""
        begun = self._begun.search(text)
        return 0 if begun is None else len(text) - begun.start()


def _beginnings(mark: str) -> str:
    """A pattern for every beginning of a mark but the whole; a mark of one character has none."""
    if len(mark) == 1:
        return "(?!)"
    pattern = ""
    for character in reversed(mark[1:-1]):
        pattern = f"(?:{re.escape(character)}{pattern})?"
    return re.escape(mark[0]) + pattern
