"""Finds marks in a text that comes in pieces: the first one, and how much of the text's end may become one."""

from __future__ import annotations

import re
from collections.abc import Iterable


class MarkerMatcher:
    """A fixed set of marks, compiled once. Of two marks, one inside the other, only the inner one is found."""

    def __init__(self, marks: Iterable[str]) -> None:
        given = sorted({mark for mark in marks if mark})
        self.marks = tuple(mark for mark in given if not any(other != mark and other in mark for other in given))
        self._whole = re.compile("|".join(map(re.escape, self.marks)) or r"(?!)")
        self._begun = re.compile(f"(?:{'|'.join(map(_beginnings, self.marks)) or '(?!)'})\\Z")

    def find(self, text: str, start: int = 0) -> tuple[int, str] | None:
        """The position of the first mark, and the mark; None if there is none."""
        found = self._whole.search(text, start)
        return None if found is None else (found.start(), found.group())

    def held(self, text: str) -> int:
        """The number of characters at the text's end that may begin a mark."""
        begun = self._begun.search(text)
        return 0 if begun is None else len(text) - begun.start()


def _beginnings(mark: str) -> str:
    """A pattern for all proper prefixes of a mark; a mark of one character has none."""
    if len(mark) == 1:
        return "(?!)"
    pattern = ""
    for character in reversed(mark[1:-1]):
        pattern = f"(?:{re.escape(character)}{pattern})?"
    return re.escape(mark[0]) + pattern
