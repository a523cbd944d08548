"""Where a JSON value ends, in a text that comes in pieces."""

from __future__ import annotations

import re

IN_STRING = re.compile(r'["\\]')
OUTSIDE = re.compile(r'["{}\[\]]')
AFTER_SCALAR = re.compile(r"[,}\]\s]")


class Extent:
    """Follows one value from its first character on; brackets and strings are looked at, nothing else is checked."""

    def __init__(self, first: str) -> None:
        self.nested = first in "{["
        """An object or a list, not a string, number or word."""
        self._scalar = not self.nested and first != '"'
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> tuple[int, bool]:
        """How much of the text belongs to the value, and whether it ends there."""
        if self._scalar:
            found = AFTER_SCALAR.search(text)
            return (len(text), False) if found is None else (found.start(), True)
        at = 0
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (IN_STRING if self._in_string else OUTSIDE).search(text, at)
            if found is None:
                break
            at = found.end()
            if self._ends(found.group()):
                return at, True
        return len(text), False

    def _ends(self, character: str) -> bool:
        if character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = not self._in_string
        elif character in "{[":
            self._depth += 1
        else:
            self._depth -= 1
        return not self._in_string and not self._escaped and self._depth == 0
