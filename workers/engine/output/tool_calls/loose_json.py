"""Values that a model wrote as JSON, or nearly so, turned into JSON while they are written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto

SPACE = " \t\r\n"
CLOSERS = {"{": "}", "[": "]", "(": ")"}
MOST_DEPTH = 100
"""The deepest nesting: clients' parsers recurse."""

NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
WORDS = {word: word for word in ("true", "false", "null")} | {"True": "true", "False": "false", "None": "null"}
BARE_KEY = re.compile(r"""[^\s:=,{}\[\]()"']+""")
HEX = re.compile(r"[0-9a-fA-F]*")
LOW_SURROGATE = re.compile(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
PATH = re.compile(r"[\w.\- ]")
DRIVE = re.compile(r"[A-Za-z]:")
PART_OF_CODE = re.compile(r"\\u[0-9a-fA-F]{0,3}")
NO_ESCAPE = re.compile(r"\\(?:[^\\/\"'bfnrtu]|u(?![0-9a-fA-F]{4}))")
MAYBE_ESCAPE = re.compile(r"\\[bfnrt][a-z]")
FOLDERS = re.compile(r"(?:\\[\w.\-]+)+")
FILE_ENDING = re.compile(r"\.[A-Za-z]\w{0,4}\Z")
PYTHON_ESCAPES = {"a": "\a", "v": "\v", "\n": ""}


@dataclass(frozen=True, slots=True)
class Notation:
    """The quotes of strings, longest first; in strings with the quotes `raw`, a backslash is a plain character.

    `opener` begins the outermost object; inner ones begin with a brace.
    """

    quotes: tuple[str, ...] = ('"', "'")
    raw: str = ""
    opener: str = "{"

    @property
    def python(self) -> bool:
        """Whether arguments are written as in a Python call."""
        return self.opener == "("


JSON = Notation()
PYTHON = Notation(('"""', "'''", '"', "'"), opener="(")
GEMMA4 = Notation(('<|"|>', '"', "'"), raw='<|"|>')
FUNCTION_GEMMA = Notation(("<escape>", '"', "'"), raw="<escape>")


class At(Enum):
    """What is read next."""

    KEY = auto()
    COLON = auto()
    VALUE = auto()
    AFTER = auto()
    STRING = auto()
    OVER = auto()


@dataclass(slots=True)
class Open:
    """An object or a list that is not closed: the closer that the model writes, and JSON's."""

    closer: str
    json: str

    @property
    def is_object(self) -> bool:
        """Whether it has keys."""
        return self.json == "}"


class LooseJson:
    """One value. The output is always JSON, and input that is JSON already comes out unchanged.

    Control characters in strings and invalid escapes are mended: the backslash of a path or a regular expression stays
    one. Unescaped quotes inside a string are told from its end by what follows them. Words without quotes become
    strings, keys without quotes keys, missing and surplus commas are mended, and open brackets are closed. `ends` are a
    mark that ends the value anywhere outside strings, and one that may follow it: inside a string the first ends the
    value only where the text ends, or where the second follows. `unread` is text still to be read, and after the end
    all that follows.
    """

    def __init__(self, notation: Notation = JSON, ends: tuple[str, str] = ("", "")) -> None:
        self.unread = ""
        self._notation = notation
        self._end, self._next = ends
        self._at = At.VALUE
        self._open: list[Open] = []
        self._out: list[str] = []
        self._gap = ""
        """White space before the next item, with its comma if there was one."""
        self._final = False
        self._quote = ""
        self._plain = re.compile("")
        self._is_key = False
        self._pretty = False
        """Whether keys have no quotes, so that there is no JSON spacing to keep."""
        self._head = ""
        """The first three characters of a string."""
        self._sloppy = self._path = self._drive = False
        """Whether this string had an invalid escape; whether a path goes on here; whether the string is a Windows
        path."""

    @property
    def over(self) -> bool:
        """Whether the value has ended."""
        return self._at is At.OVER

    @property
    def in_string(self) -> bool:
        """Whether the next text is inside a string."""
        return self._at is At.STRING

    def feed(self, text: str) -> str:
        """The part of the value that is certain after more text."""
        self.unread += text
        while self.unread and not self.over and self._step():
            pass
        return self._taken()

    def finish(self) -> str:
        """The rest of the value at the text's end, closed."""
        self._final = True
        out = self.feed("")
        if not self.over:
            self._close_all()
        return out + self._taken()

    def cut(self) -> str:
        """The rest of a value that was cut off, which stays open."""
        if self._at is At.STRING:
            return '"' if self.unread[:1] == self._quote else ""
        return self._gap + self.unread if self._at is At.VALUE and not self._pretty else ""

    def _taken(self) -> str:
        out, self._out = "".join(self._out), []
        return out

    def _step(self) -> bool:
        """Read one item; False if that needs more text."""
        if self._at is At.STRING:
            return self._string()
        first = self.unread[0]
        if first in SPACE:
            return self._space()
        if self._end and self._end.startswith(self.unread[: len(self._end)]):
            if len(self.unread) >= len(self._end):
                self._close_all()
                return True
            if not self._final:
                return False
        if first in "}])":
            return self._close(first)
        if first == ",":
            return self._comma()
        match self._at:
            case At.KEY:
                return self._key(first)
            case At.COLON:
                return self._colon(first)
            case At.AFTER:
                self._gap = "," + self._gap
                self._at = self._next_item()
                return True
        return self._value(first)

    def _space(self) -> bool:
        rest = self.unread.lstrip(SPACE)
        space, self.unread = self.unread[: len(self.unread) - len(rest)], rest
        if self._at is At.COLON or (self._at is At.VALUE and self._in_object()):
            self._out.append("" if self._pretty else space)
        elif self._open:
            self._gap += space
        return True

    def _in_object(self) -> bool:
        return bool(self._open) and self._open[-1].is_object

    def _next_item(self) -> At:
        return At.KEY if self._in_object() else At.VALUE

    def _begin_item(self) -> None:
        self._out.append(", " if self._pretty and self._gap == "," else self._gap)
        self._gap = ""

    def _after(self) -> None:
        self._at = At.AFTER if self._open else At.OVER

    def _close(self, closer: str) -> bool:
        """Close all up to the bracket that this closes; a closer without a bracket is dropped."""
        if not self._open:
            self._close_all()
            return True
        self.unread = self.unread[1:]
        if any(one.closer == closer for one in self._open):
            while self._pop().closer != closer:
                pass
            self._after()
        return True

    def _pop(self) -> Open:
        self._fill()
        self._out.append(self._gap.replace(",", ""))
        self._gap = ""
        one = self._open.pop()
        self._out.append(one.json)
        self._at = At.AFTER
        return one

    def _fill(self) -> None:
        """Give null to a key without a value."""
        if self._at is At.COLON:
            self._out.append(": null")
        elif self._at is At.VALUE and (self._in_object() or not self._open):
            self._out.append("null")

    def _close_all(self) -> None:
        if self._at is At.STRING:
            self._end_string()
        while self._open:
            self._pop()
        self._fill()
        self._at = At.OVER

    def _comma(self) -> bool:
        if not self._open:
            self._close_all()
            return True
        self.unread = self.unread[1:]
        if self._at is At.COLON or (self._at is At.VALUE and self._in_object()):
            self._fill()
            self._at = At.AFTER
        if self._at is At.AFTER:
            self._gap += ","
            self._at = self._next_item()
        return True

    def _key(self, first: str) -> bool:
        quoted = self._opening()
        if quoted is None:
            return False
        if quoted:
            return self._begin_string(quoted, is_key=True)
        if first in "{[(:=":
            self._begin_item()
            self._out.append('""')
            self._at = At.COLON
            return True
        found = BARE_KEY.match(self.unread)
        if found is None or (found.end() == len(self.unread) and not self._final):
            return False
        self._pretty = True
        self._begin_item()
        self._out.append(json.dumps(found.group(), ensure_ascii=False))
        self.unread = self.unread[found.end() :]
        self._at = At.COLON
        return True

    def _colon(self, first: str) -> bool:
        if first in ":=":
            self.unread = self.unread[1:]
        self._out.append(": " if self._pretty else ":")
        self._at = At.VALUE
        return True

    def _value(self, first: str) -> bool:
        quoted = self._opening()
        if quoted is None:
            return False
        if quoted:
            return self._begin_string(quoted, is_key=False)
        nests = first in "{[" or (first == "(" and self._notation.python)
        if nests and len(self._open) < MOST_DEPTH:
            return self._push(first)
        return self._bare()

    def _push(self, first: str) -> bool:
        is_object = first == "{" or (first == "(" and not self._open)
        self._begin_item()
        self._open.append(Open(CLOSERS[first], "}" if is_object else "]"))
        self._out.append("{" if is_object else "[")
        self.unread = self.unread[1:]
        self._at = self._next_item()
        return True

    def _bare(self) -> bool:
        """Read a number or a word, up to what ends it."""
        stops = [
            at for stop in (",", "}", "]", "\n", *")" * self._notation.python) if (at := self.unread.find(stop)) > 0
        ]
        if self._end and (at := self.unread.find(self._end)) > 0:
            stops.append(at)
        if not stops and not self._final:
            return False
        text = self.unread[: min(stops, default=len(self.unread))].rstrip()
        self._begin_item()
        self._out.append(word(text))
        self.unread = self.unread[len(text) :]
        self._after()
        return True

    def _opening(self) -> str | None:
        """The quote of a string that begins here, "" for none, None if that is not certain yet."""
        quotes = self._notation.quotes
        for quote in quotes:
            if self.unread.startswith(quote):
                return quote
            if quote.startswith(self.unread) and not self._final:
                return None
        return ""

    def _begin_string(self, quote: str, *, is_key: bool) -> bool:
        self._begin_item()
        self._out.append('"')
        self.unread = self.unread[len(quote) :]
        self._quote, self._is_key = quote, is_key
        self._head = ""
        self._sloppy = self._path = self._drive = False
        special = re.escape(quote[0] + self._end[:1])
        self._plain = re.compile(rf'[^"\\\x00-\x1f{special}]+')
        self._at = At.STRING
        return True

    def _end_string(self) -> None:
        self._out.append('"')
        if self._is_key:
            self._at = At.COLON
        else:
            self._after()

    def _say(self, text: str, length: int) -> bool:
        """Output text that may stand in a JSON string as it is, and pass over `length` characters."""
        self._out.append(text)
        if len(self._head) < 3:
            self._head += self.unread[: min(length, 3 - len(self._head))]
        self.unread = self.unread[length:]
        return True

    def _string(self) -> bool:
        found = self._plain.match(self.unread)
        if found is not None:
            self._path = self._path and PATH.sub("", found.group()) == ""
            return self._say(found.group(), found.end())
        if self.unread.startswith(self._quote):
            return self._quoted()
        if self._quote.startswith(self.unread) and not self._final:
            return False
        if self._end and self._end.startswith(self.unread[: len(self._end)]):
            ended = self._ended(self.unread)
            if ended is None:
                return False
            if ended:
                self._close_all()
                return True
        first = self.unread[0]
        if first == "\\":
            return self._escape()
        self._path = False
        return self._say(escaped(first), 1)

    def _ended(self, text: str) -> bool | None:
        """Whether the end mark at the start of a text is the end; None if that needs more text."""
        if len(text) < len(self._end):
            return False if self._final else None
        after = text[len(self._end) :].lstrip(SPACE)
        if not after:
            return True if self._final else None
        if self._next and self._next.startswith(after[: len(self._next)]):
            return True if len(after) >= len(self._next) else (False if self._final else None)
        return False

    def _quoted(self) -> bool:
        """Read a quote that may end the string."""
        closes = self._is_key or len(self._quote) > 1 or self._closes(self.unread[1:].lstrip(SPACE))
        if closes is None:
            return False
        if not closes:
            self._path = False
            return self._say(escaped(self._quote), 1)
        self.unread = self.unread[len(self._quote) :]
        self._end_string()
        return True

    def _closes(self, after: str) -> bool | None:
        """Whether a quote ends its string, by the text after it; None if that is not certain yet."""
        if not after:
            return True if self._final else None
        if self._end and self._end.startswith(after[: len(self._end)]):
            return True if len(after) >= len(self._end) or self._final else None
        closers = "}]" + ")" * self._notation.python
        if after[0] in closers:
            return True
        if after[0] != ",":
            return False
        if self._open and not self._open[-1].is_object:
            return True
        following = after[1:].lstrip(SPACE)
        if not following:
            return True if self._final else None
        if self._notation is not JSON and BARE_KEY.match(following):
            return True
        return following[0] in closers or any(following[0] == quote[0] for quote in self._notation.quotes)

    def _escape(self) -> bool:
        if self._quote == self._notation.raw:
            return self._say("\\\\", 1)
        if len(self.unread) < 2:
            return self._say("\\\\", 1) if self._final else False
        following = self.unread[1]
        if DRIVE.fullmatch(self._head):
            drive = self._follows_drive()
            if drive is None:
                return False
            self._drive = drive
        if following == "\\":
            return self._say("\\\\", 2)
        if following in "\"'" and not self._drive:
            return self._say(escaped(following), 2)
        if self._drive or self._path or (self._sloppy and following in "bf"):
            return self._say("\\\\", 1)
        if following == "u":
            return self._unicode()
        if following in "/bfnrt":
            return self._say(self.unread[:2], 2)
        if self._notation.python and following in PYTHON_ESCAPES:
            return self._say(escaped(PYTHON_ESCAPES[following]), 2)
        self._sloppy = self._path = True
        return self._say("\\\\", 1)

    def _follows_drive(self) -> bool | None:
        """Whether the path of a Windows drive begins here; None if that needs more text.

        What may be an escape of JSON is a path only where it goes on with what is none, or is the whole rest of the
        string and ends as a file does.
        """
        more = not self._final
        if more and (len(self.unread) < 3 or PART_OF_CODE.fullmatch(self.unread)):
            return None
        if NO_ESCAPE.match(self.unread):
            return True
        found = FOLDERS.match(self.unread) if MAYBE_ESCAPE.match(self.unread) else None
        if found is None:
            return False
        path, after = found.group(), self.unread[found.end() :]
        if more and after in ("", "\\"):
            return None
        if NO_ESCAPE.search(path):
            return True
        return after[:1] == self._quote[0] and FILE_ENDING.search(path) is not None

    def _unicode(self) -> bool:
        digits = self.unread[2:6]
        found = HEX.match(digits)
        if found is not None and len(found.group()) < 4:
            if len(self.unread) < 6 and found.group() == digits and not self._final:
                return False
            self._sloppy = self._path = True
            return self._say("\\\\", 1)
        code = int(digits, 16)
        if not 0xD800 <= code < 0xE000:
            return self._say(self.unread[:6], 6)
        if code < 0xDC00:
            if LOW_SURROGATE.match(self.unread, 6):
                return self._say(self.unread[:12], 12)
            if len(self.unread) < 12 and "\\uDC00".startswith(self.unread[6:8]) and not self._final:
                return False
        return self._say("\\ufffd", 6)


def escaped(text: str) -> str:
    """A text as the inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def word(text: str) -> str:
    """The JSON of a value without quotes: a number, a constant of JSON or Python, else a string."""
    if NUMBER.fullmatch(text):
        return text
    return WORDS.get(text) or json.dumps(text, ensure_ascii=False)


def mended(text: str, notation: Notation = JSON) -> str:
    """A complete value as JSON."""
    value = LooseJson(notation)
    return value.feed(text) + value.finish()


def plain_arguments(text: str) -> str:
    """Arguments that may be no object: an object as JSON, the content of a JSON string, `{}` for null. What can't be
    read stays as it is."""
    text = text.strip()
    if text.startswith("{"):
        return mended(text)
    try:
        value = json.loads(text or "null", strict=False)
    except (ValueError, RecursionError):
        return text
    if value is None:
        return "{}"
    if not isinstance(value, str):
        return text
    held = value.strip()
    return mended(held) if held.startswith("{") else held or "{}"
