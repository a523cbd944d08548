"""One text in a JSON object, read while the object is still being written."""

from __future__ import annotations

import json
import re

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
LOST = "\N{REPLACEMENT CHARACTER}"
"""Stands for half a surrogate pair."""


class JsonString:
    """The text of the property `name`, which has to be the object's first one to be told before the end.

    Where the object is another one, or none at all, its whole text is the text: nothing is lost.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin = re.compile(rf'\s*\{{\s*{re.escape(json.dumps(name))}\s*:\s*"')
        self._raw = ""
        self._rest: str | None = None
        """What was not read yet of the text that has begun; None before it."""
        self._closed = False
        self._high = ""

    def feed(self, piece: str) -> str:
        """The next part of the object; gives what is known of the text by now."""
        if self._closed:
            return ""
        if self._rest is not None:
            self._rest += piece
            return self._read()
        self._raw += piece
        begun = self._begin.match(self._raw)
        if begun is None:
            return ""
        self._rest = self._raw[begun.end() :]
        return self._read()

    def end(self) -> str:
        """Nothing more comes: the last of the text."""
        if self._rest is None:
            return self._whole()
        lost, self._high = self._high, ""
        return LOST if lost else ""

    def _whole(self) -> str:
        """The text of an object that was not read while it was written."""
        try:
            found = json.loads(self._raw)
        except ValueError:
            return self._raw
        text = found.get(self._name) if isinstance(found, dict) else found
        return readable(text) if isinstance(text, str) else self._raw

    def _read(self) -> str:
        """All that is certain of the text."""
        assert self._rest is not None
        parts, at, rest = [], 0, self._rest
        while at < len(rest) and not self._closed:
            if rest[at] == '"':
                self._closed = True
            elif rest[at] != "\\":
                end = next_mark(rest, at)
                parts.append(self._pair("") + rest[at:end])
                at = end
            elif (size := escape_size(rest, at)) is None:
                break
            else:
                parts.append(self._unescape(rest[at : at + size]))
                at += size
        self._rest = rest[at:]
        return "".join(parts)

    def _unescape(self, escape: str) -> str:
        if escape[1] != "u" or len(escape) < 6:
            return self._pair("") + ESCAPES.get(escape[1], escape)
        return self._pair(chr(int(escape[2:], 16)))

    def _pair(self, unit: str) -> str:
        """A character that may be half of one: the first half waits for the second."""
        high, self._high = self._high, ""
        if high and "\udc00" <= unit <= "\udfff":
            return (high + unit).encode("utf-16", "surrogatepass").decode("utf-16")
        lost = LOST if high else ""
        if "\ud800" <= unit <= "\udbff":
            self._high = unit
            return lost
        return lost + readable(unit)


def string_in(text: str, name: str) -> str:
    """The same of a whole object."""
    reader = JsonString(name)
    return reader.feed(text) + reader.end()


def next_mark(text: str, at: int) -> int:
    """Where the next quote or backslash stands, or the end."""
    found = re.compile(r'["\\]').search(text, at)
    return found.start() if found else len(text)


def escape_size(text: str, at: int) -> int | None:
    """How long the escape is that begins here; None if it is not all there. A bad one is two characters long."""
    if len(text) - at < 2:
        return None
    if text[at + 1] != "u":
        return 2
    digits = re.compile("[0-9a-fA-F]{0,4}").match(text, at + 2)
    assert digits is not None
    if len(digits[0]) == 4:
        return 6
    return None if digits.end() == len(text) else 2


def readable(text: str) -> str:
    """The text without halves of surrogate pairs, which no UTF-8 has."""
    return re.sub("[\ud800-\udfff]", LOST, text)
