"""Calls written as JSON, `{"name": ..., "arguments": {...}}`, read while they are written."""

from __future__ import annotations

import json
from enum import Enum, auto

from mlx_server.workers.engine.output.tool_calls.calls import NO_ARGUMENTS, Rest, ToolCalls
from mlx_server.workers.engine.output.tool_calls.loose_json import BARE_KEY, JSON, LooseJson, plain_arguments

NAME_KEYS = ("name", "tool_name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
ABOUT_THE_CALL = ("id", "type", "index", "tool_call_id")
"""Members that don't count as arguments where a call has no `arguments`."""
BEFORE_CALLS = " \t\r\n["
BETWEEN_CALLS = " \t\r\n[],;}"
"""Includes what small models write too much of: a closing bracket is not text."""
SPACE = " \t\r\n"
QUOTES = "\"'"


class At(Enum):
    """What is read next."""

    CALL = auto()
    KEY = auto()
    KEY_STRING = auto()
    COLON = auto()
    VALUE = auto()
    NAME = auto()
    ARGUMENTS = auto()
    OTHER = auto()
    RAW = auto()
    OVER = auto()
    BROKEN = auto()


class JsonCalls:
    """One block of calls: an object, several, or a list of them, up to the mark `end` ("" for the text's end).

    A call begins when its name is known, and its arguments are passed on as the model writes them, mended where they
    are not quite JSON. Where a call has only other members, those are the arguments. A name that is not among the
    request's counts if `bare` is not set, or if there are arguments beside it.
    """

    def __init__(self, calls: ToolCalls, marks: tuple[str, str], *, bare: bool = False) -> None:
        self._calls = calls
        self._marks = marks
        self._end = marks[1]
        self._bare = bare
        self._first = calls.begun
        self._text = ""
        """Text that is still to be read."""
        self._raw = ""
        """Text read since the last call; it stays text if no call comes of it."""
        self._at = At.CALL
        self._final = False
        self._start()

    def _start(self) -> None:
        self._depth = 0
        self._key = ""
        self._call: int | None = None
        self._name = ""
        """A name that may turn out not to be a function's."""
        self._arguments = ""
        """Arguments that have not been passed on."""
        self._others: list[str] = []
        self._value: LooseJson | None = None
        self._said = ""
        """The value so far."""
        self._nested = False
        self._have_arguments = False

    def feed(self, text: str) -> Rest | None:
        """Take more text; None while the block goes on."""
        self._text += text
        while self._step():
            if self._calls.complete:
                return Rest("")
        if self._at is At.OVER:
            return Rest(self._text, closed=True)
        return self._give_up() if self._at is At.BROKEN else None

    def flush(self, *, cut: bool) -> Rest:
        """End the text inside the block."""
        if cut or self._at is At.NAME:
            self._pass_on_cut()
            return self._give_up(cut=cut)
        self._final = True
        rest = self.feed("")
        if rest is not None:
            return rest
        if self._at is At.CALL and self._calls.begun > self._first:
            # At most a mark that was cut off.
            return Rest("")
        if self._call is not None:
            self._end_call()
            return Rest("")
        return self._give_up()

    def _pass_on_cut(self) -> None:
        if self._call is None or self._value is None or self._at is not At.ARGUMENTS:
            return
        if self._nested:
            self._pass_on(self._arguments + self._value.cut())
        else:
            self._pass_on(unquoted_start(self._said))

    def _give_up(self, *, cut: bool = False) -> Rest:
        """Return as text what is not a call, and what follows a call that broke off after its arguments."""
        if self._call is not None:
            if self._have_arguments:
                self._calls.end()
            return Rest("" if cut else self._text)
        if self._calls.begun > self._first:
            return Rest(self._raw.lstrip(BETWEEN_CALLS) + self._text)
        return Rest(self._raw + self._text, failed=True)

    def _step(self) -> bool:
        """Read one item. False if that needs more text, or nothing is left to read."""
        match self._at:
            case At.CALL:
                return self._read_call()
            case At.KEY:
                return self._read_key()
            case At.KEY_STRING:
                return self._read_key_string()
            case At.COLON:
                return self._skip(SPACE) and (self._take(":", At.VALUE) or self._break())
            case At.VALUE:
                return self._skip(SPACE) and self._read_value()
            case At.NAME:
                return self._read_name()
            case At.ARGUMENTS:
                return self._read_arguments()
            case At.OTHER:
                return self._read_other()
            case At.RAW:
                return self._read_raw()
        return False

    def _read_call(self) -> bool:
        called = self._calls.begun > self._first
        skipped = BETWEEN_CALLS if called else BEFORE_CALLS
        if not self._skip(skipped.replace(self._end[0], "") if self._end else skipped):
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
        if self._text[0] in QUOTES:
            return self._go(At.KEY_STRING)
        if self._end and self._end.startswith(self._text[: len(self._end)]):
            if len(self._text) < len(self._end):
                return False
            return self._end_call()
        found = BARE_KEY.match(self._text)
        if found is None:
            return self._break()
        if found.end() == len(self._text):
            return False
        self._key = found.group()
        self._read(found.end())
        return self._go(At.COLON)

    def _read_key_string(self) -> bool:
        key = self._read_quoted()
        if key is None:
            return False
        self._key = key
        return self._go(At.COLON)

    def _begin_value(self) -> None:
        self._value = LooseJson(JSON, (self._end, self._marks[0]))
        self._said = ""

    def _read_value(self) -> bool:
        first = self._text[0]
        if self._key == "function" and self._take("{", At.KEY):
            self._depth += 1
            return True
        self._begin_value()
        if self._key in ARGUMENT_KEYS and not self._have_arguments:
            self._nested = first in "{["
            if self._name and self._nested and first == "{":
                self._begin(self._name)
            return self._go(At.ARGUMENTS)
        return self._go(At.NAME if self._key in NAME_KEYS and first in QUOTES and self._call is None else At.OTHER)

    def _more_of_value(self) -> tuple[str, bool]:
        """The next part of the value, and whether the value has ended."""
        value = self._value
        assert value is not None
        text = self._read(len(self._text))
        said = value.feed(text)
        if self._final and not value.over:
            said += value.finish()
        if value.over:
            self._unread(value.unread)
        self._said += "" if self._nested and self._at is At.ARGUMENTS else said
        return said, value.over

    def _read_name(self) -> bool:
        name = self._read_quoted()
        return name is not None and self._named(name.strip())

    def _read_quoted(self) -> str | None:
        """A key or a name, up to the next quote; None if it goes on."""
        end = self._text.find(self._text[:1], 1)
        return None if end < 0 else self._read(end + 1)[1:-1]

    def _named(self, name: str) -> bool:
        if self._calls.takes(name) and (not self._bare or self._calls.knows(name)):
            return self._begin(name)
        if not self._bare or self._name or self._calls.only_known or not self._calls.takes(name):
            return self._break()
        self._name = name
        if self._have_arguments and self._arguments.startswith("{"):
            return self._begin(name)
        return self._go(At.KEY)

    def _begin(self, name: str) -> bool:
        self._call = self._calls.begin(name)
        self._raw = self._name = ""
        if self._have_arguments:
            self._pass_on(self._arguments)
        return self._go(At.KEY)

    def _read_arguments(self) -> bool:
        said, done = self._more_of_value()
        if self._nested:
            self._arguments += said
        elif done:
            self._arguments = plain_arguments(self._said)
        if done:
            self._have_arguments = True
        if self._call is not None:
            self._pass_on(self._arguments)
        return done and self._go(At.KEY)

    def _read_other(self) -> bool:
        if not self._more_of_value()[1]:
            return False
        if self._key not in ABOUT_THE_CALL:
            self._others.append(f"{json.dumps(self._key, ensure_ascii=False)}: {self._said}")
        return self._go(At.KEY)

    def _read_raw(self) -> bool:
        """Take text after a name that is no member of anything for the arguments."""
        at = self._text.find(self._end) if self._end else -1
        if at < 0 and not self._final:
            return False
        assert self._call is not None
        self._read(at if at >= 0 else len(self._text))
        self._pass_on(plain_arguments(self._raw.lstrip(SPACE + ",")) or NO_ARGUMENTS)
        self._have_arguments = True
        return self._end_call()

    def _pass_on(self, arguments: str) -> None:
        assert self._call is not None
        self._calls.more(self._call, arguments)
        self._arguments = ""

    def _end_call(self) -> bool:
        if self._call is None:
            return self._break()
        if not self._have_arguments:
            self._pass_on("{" + ", ".join(self._others) + "}" if self._others else NO_ARGUMENTS)
        self._calls.end()
        self._start()
        self._raw = ""
        return self._go(At.CALL)

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
        if self._keeps():
            self._raw += read
        return read

    def _keeps(self) -> bool:
        """Whether the text being read may have to be returned as it is."""
        return self._call is None or self._at is not At.ARGUMENTS

    def _unread(self, text: str) -> None:
        """Put back text that was read too far."""
        self._text = text
        if text and self._keeps():
            self._raw = self._raw[: -len(text)]

    def _go(self, then: At) -> bool:
        self._at = then
        return True

    def _break(self) -> bool:
        if self._call is not None and not self._have_arguments:
            return self._go(At.RAW)
        self._at = At.BROKEN
        return False


def unquoted_start(value: str) -> str:
    """The content of a string that was cut off; empty if it can't be read."""
    try:
        return str(json.loads(value.rstrip("\\") + '"', strict=False)) if value.startswith('"') else ""
    except ValueError:
        return ""
