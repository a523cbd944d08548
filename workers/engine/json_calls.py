"""Calls written as JSON, `{"name": ..., "arguments": {...}}`, read while they are written."""

from __future__ import annotations

import json
import re
from enum import Enum, auto

from mlx_server.workers.engine.calls import NO_ARGUMENTS, Calls, Rest
from mlx_server.workers.engine.json_extent import Extent

NAME_KEYS = ("name", "tool_name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
BEFORE_CALLS = " \t\r\n["
BETWEEN_CALLS = " \t\r\n[],;}"
"""Small models close one bracket too many; that is no text to show."""
SPACE = " \t\r\n"


class At(Enum):
    """What is read next."""

    CALL = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    ARGUMENTS = auto()
    SKIPPED = auto()
    OVER = auto()
    BROKEN = auto()


class JsonCalls:
    """One block of calls: an object, several, or a list of them, up to the mark `end` ("" for the text's end).

    A call begins when its name is known, and its arguments are passed on as the model writes them. A mark inside a
    string is part of the string.
    """

    def __init__(self, calls: Calls, end: str) -> None:
        self._calls = calls
        self._end = end
        self._first = calls.begun
        self._text = ""
        """What has not been read."""
        self._raw = ""
        """What has been read since the last call, and is text if no call comes of it."""
        self._at = At.CALL
        self._start()

    def _start(self) -> None:
        self._depth = 0
        self._key = ""
        self._call: int | None = None
        self._arguments = ""
        """Arguments that have not been passed on."""
        self._extent: Extent | None = None
        self._have_arguments = False

    def feed(self, text: str) -> Rest | None:
        """Read on; None while the block goes on."""
        self._text += text
        while self._step():
            if self._calls.complete:
                return Rest("", failed=False)
        if self._at is At.OVER:
            return Rest(self._text, failed=False)
        return self._give_up() if self._at is At.BROKEN else None

    def flush(self) -> Rest:
        """The text has ended inside the block."""
        if self._at is At.CALL and self._calls.begun > self._first:
            # At most a mark that was cut off.
            return Rest("", failed=False)
        if self._extent is not None and self._at is At.ARGUMENTS and self._arguments and self._call is not None:
            self._pass_on(unquoted_start(self._arguments))
        return self._give_up()

    def _give_up(self) -> Rest:
        """What is not a call is text, and so is what follows one that broke off after its name."""
        if self._call is not None:
            if self._have_arguments:
                self._calls.end()
            return Rest(self._text, failed=False)
        if self._calls.begun > self._first:
            return Rest(self._raw.lstrip(BETWEEN_CALLS) + self._text, failed=False)
        return Rest(self._raw + self._text, failed=True)

    def _step(self) -> bool:
        """Read one thing. False if that needs more text, or there is no more to read."""
        match self._at:
            case At.CALL:
                return self._read_call()
            case At.KEY:
                return self._read_key()
            case At.COLON:
                return self._skip(SPACE) and (self._take(":", At.VALUE) or self._break())
            case At.VALUE:
                return self._skip(SPACE) and self._read_value()
            case At.ARGUMENTS:
                return self._read_arguments()
            case At.SKIPPED:
                return self._read_extent()[1] and self._go(At.KEY)
        return False

    def _read_call(self) -> bool:
        called = self._calls.begun > self._first
        if not self._skip(BETWEEN_CALLS if called else BEFORE_CALLS):
            return False
        if self._take("{", At.KEY):
            self._depth = 1
            return True
        if self._end and self._end.startswith(self._text[: len(self._end)]):
            if len(self._text) < len(self._end):
                return False
            return self._take(self._end, At.OVER) if called else self._break()
        return self._break()

    def _read_key(self) -> bool:
        if not self._skip(SPACE + ","):
            return False
        if self._take("}", At.KEY):
            self._depth -= 1
            return self._depth > 0 or self._end_call()
        key = self._read_string()
        if key is None:
            return False
        self._key = key
        return self._go(At.COLON)

    def _read_value(self) -> bool:
        first = self._text[0]
        if self._key in ARGUMENT_KEYS and not self._have_arguments:
            self._extent = Extent(first)
            return self._go(At.ARGUMENTS)
        if self._key == "function" and self._take("{", At.KEY):
            self._depth += 1
            return True
        if self._key in NAME_KEYS and first == '"' and self._call is None:
            name = self._read_string()
            return name is not None and self._named(name.strip())
        self._extent = Extent(first)
        return self._go(At.SKIPPED)

    def _named(self, name: str) -> bool:
        if name not in self._calls.names:
            return self._break()
        self._call = self._calls.begin(name)
        self._raw = ""
        if self._have_arguments:
            self._pass_on(self._arguments)
        return self._go(At.KEY)

    def _read_arguments(self) -> bool:
        assert self._extent is not None
        nested = self._extent.nested
        read, done = self._read_extent()
        self._arguments += read
        if done:
            self._have_arguments = True
            if not nested:
                self._arguments = unquoted(self._arguments)
        if self._call is not None and (nested or done):
            self._pass_on(self._arguments)
        return done and self._go(At.KEY)

    def _pass_on(self, arguments: str) -> None:
        assert self._call is not None
        self._calls.more(self._call, arguments)
        self._arguments = ""

    def _end_call(self) -> bool:
        if self._call is None:
            return self._break()
        if not self._have_arguments:
            self._pass_on(NO_ARGUMENTS)
        self._calls.end()
        self._start()
        return self._go(At.CALL)

    def _read_extent(self) -> tuple[str, bool]:
        assert self._extent is not None
        end, done = self._extent.feed(self._text)
        if done:
            self._extent = None
        return self._read(end), done

    def _read_string(self) -> str | None:
        """A whole string; None if it goes on, or if there is none and the block is broken."""
        if not self._text.startswith('"'):
            self._break()
            return None
        found = STRING.match(self._text)
        if found is None:
            return None
        try:
            text = json.loads(found.group(), strict=False)
        except ValueError:
            self._break()
            return None
        self._read(found.end())
        return str(text)

    def _skip(self, characters: str) -> bool:
        """Skip these characters; False if nothing follows yet."""
        self._read(len(self._text) - len(self._text.lstrip(characters)))
        return bool(self._text)

    def _take(self, text: str, then: At) -> bool:
        if not self._text.startswith(text):
            return False
        self._read(len(text))
        return self._go(then)

    def _read(self, end: int) -> str:
        read, self._text = self._text[:end], self._text[end:]
        if self._call is None:
            self._raw += read
        return read

    def _go(self, then: At) -> bool:
        self._at = then
        return True

    def _break(self) -> bool:
        self._at = At.BROKEN
        return False


def unquoted(value: str) -> str:
    """Arguments that are no object: a string of JSON stands for what it holds, null for no arguments."""
    try:
        loaded = json.loads(value or "null", strict=False)
    except ValueError:
        return value
    if loaded is None:
        return NO_ARGUMENTS
    return (loaded.strip() or NO_ARGUMENTS) if isinstance(loaded, str) else value


def unquoted_start(value: str) -> str:
    """What a string that was cut off holds; nothing if it is not to be made out."""
    try:
        return str(json.loads(value.rstrip("\\") + '"', strict=False)) if value.startswith('"') else ""
    except ValueError:
        return ""
