"""Calls in which every argument has tags of its own, read while they are written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from mlx_server.workers.engine.output.tool_calls.argument_types import NESTED, NULL, STRING, Parameters, argument
from mlx_server.workers.engine.output.tool_calls.calls import NO_ARGUMENTS, Rest, ToolCalls
from mlx_server.workers.engine.output.tool_calls.loose_json import LooseJson, escaped, plain_arguments
from mlx_server.workers.engine.output.tool_calls.marker_matcher import MarkerMatcher

MOST_TAG = 400
"""The most characters to wait for a tag."""

CDATA, CDATA_END = "<![CDATA[", "]]>"


@dataclass(frozen=True, slots=True)
class Tags:
    """One family's calls.

    `call` finds what begins a call, with its `name`; `call_start` is the text that leads it, "" where the block's own
    mark does. `argument` finds what begins an argument, with its `key` and perhaps its `kind`; `argument_start` leads
    it. An argument of the `kind` `text` is a string, of any other JSON, and without one its schema tells. `padded`: a
    line break on each side of a value is not its own. `noise` may stand round the arguments, and begins with one of
    `noise_starts`. `cdata`: a value may be put in XML's CDATA. `bare_name`: no tag holds the name, so that a word
    without arguments is a call only if it is known.
    """

    call: re.Pattern[str]
    call_start: str
    call_end: str
    argument: re.Pattern[str]
    argument_start: str
    argument_end: str
    text: str = ""
    padded: bool = False
    noise: re.Pattern[str] | None = None
    noise_starts: tuple[str, ...] = ()
    cdata: bool = False
    bare_name: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that must be in the text for the calls to be read."""
        given = (self.call_start, self.call_end, self.argument_start, self.argument_end)
        return tuple(mark for mark in given if mark)


class Value:
    """One argument's value as it grows; `take` and `close` return the part of its JSON that is certain.

    A string is passed on as it is written, once it is certain to be one.
    """

    def __init__(self, kinds: frozenset[str], *, text: bool | None, cdata: bool) -> None:
        self._kinds = kinds
        self._is_text = STRING in kinds if text is None else text
        self._may_be_other = text is None and bool(kinds & (NESTED | {NULL}))
        self._cdata = cdata
        self._held = ""
        self._streams = False

    def take(self, text: str) -> str:
        """Take the next part of the value."""
        if self._streams:
            return escaped(text)
        self._held += text
        if not self._is_string():
            return ""
        held, self._held, self._streams = self._held, "", True
        return '"' + escaped(held)

    def close(self) -> str:
        """End the value."""
        if self._streams:
            return '"'
        text = self._held
        if self._cdata and text.strip().startswith(CDATA):
            text = text.strip().removeprefix(CDATA).removesuffix(CDATA_END)
        if self._is_text and not self._may_be_other:
            return json.dumps(text, ensure_ascii=False)
        return argument(text, self._kinds)

    def cut(self) -> str:
        """The rest of a value that was cut off."""
        if self._streams:
            return ""
        return '"' + escaped(self._held) if self._is_text and self._held else self._held.strip()

    def _is_string(self) -> bool:
        if not self._is_text:
            return False
        begun = self._held.strip()
        if self._cdata and CDATA.startswith(begun[: len(CDATA)]):
            return False
        if not self._may_be_other:
            return True
        return begun != "" and begun[0] not in "{[" and not "null".startswith(begun)


class TaggedCalls:
    """One block of calls up to the mark `end`, or up to `leave`, which breaks a block off.

    A closing tag ends a value only before something that may follow it, else it is part of the value; a missing one is
    found by what comes after it. A value may contain text that looks like arguments of another call. Text in the place
    of a call's arguments is passed on as it was written, unless it is JSON.
    """

    def __init__(self, calls: ToolCalls, tags: Tags, marks: tuple[str, str], leave: str | None = None) -> None:
        self._calls = calls
        self._tags = tags
        self._start, self._end = marks
        self._leave = leave
        self._outside = MarkerMatcher(mark for mark in (self._end, leave) if mark)
        self._inside = MarkerMatcher((tags.argument_end, tags.argument_start, tags.call_end, self._end))
        self._text = ""
        self._called = False
        self._final = False
        self._call: int | None = None
        self._parameters = Parameters(None)
        self._given: set[str] = set()
        self._have_json = False
        self._value: Value | None = None
        self._json: LooseJson | None = None
        self._begun = False
        """Whether the value has begun."""
        self._depth = 0
        """The number of other calls' arguments that are open inside the value."""

    def feed(self, text: str) -> Rest | None:
        """Take more text; None while the block goes on."""
        self._text += text
        while not self._calls.complete:
            if self._value is not None:
                going = self._read_value(self._value)
            elif self._json is not None:
                going = self._read_json(self._json)
            elif self._call is not None:
                going = self._read_argument(self._call)
            else:
                rest, going = self._read_call()
                if rest is not None:
                    return rest
            if not going:
                return None
        return Rest("")

    def flush(self, *, cut: bool) -> Rest:
        """End the text inside the block."""
        if cut and self._call is not None:
            self._pass_on_cut(self._call)
            return Rest("")
        self._final = True
        rest = self.feed("")
        return Rest(self._text, failed=not self._called) if rest is None else rest

    def _pass_on_cut(self, call: int) -> None:
        if self._json is not None:
            self._calls.more(call, self._json.cut())
        elif self._value is not None:
            found = self._inside.find(self._text)
            end = len(self._text) - self._held(self._text) if found is None else found[0] - self._padding(found[0])
            self._calls.more(call, self._value.take(self._text[:end]) + self._value.cut())

    def _read_call(self) -> tuple[Rest | None, bool]:
        """Find the next call: the text after the block if that has ended, and whether there is more to read."""
        text = self._text.lstrip()
        found = self._tags.call.match(text + self._end if self._final else text)
        if found is not None and not (self._called and not self._tags.call_start):
            name = found["name"].strip()
            if not self._takes(name, text[found.end() :]):
                return Rest(self._text, failed=not self._called), False
            self._begin(name, text[found.end() :])
            return None, True
        if self._end and text.startswith(self._end):
            return Rest(text[len(self._end) :] if self._called else self._text, not self._called, self._called), False
        if self._waits(text):
            return None, False
        word, _, rest = text.partition(" ")
        if self._tags.bare_name and not self._called and self._calls.knows(word):
            self._begin(word, rest)
            return None, True
        return Rest(self._text, failed=not self._called), False

    def _takes(self, name: str, following: str) -> bool:
        if self._tags.bare_name and not following.startswith((self._tags.argument_start, "{")):
            return self._calls.knows(name)
        return self._calls.takes(name)

    def _waits(self, text: str) -> bool:
        """Whether a call or the end mark may still begin here."""
        if self._final or len(text) > MOST_TAG or (self._leave and self._leave in text):
            return False
        lead = self._tags.call_start
        if not lead and not self._called:
            return self._outside.find(text) is None
        return self._begins(text, (lead, self._end))

    def _begins(self, text: str, marks: tuple[str, ...]) -> bool:
        """Whether a text begins with one of these marks, or with a prefix of one."""
        return any(mark and (text.startswith(mark) or mark.startswith(text)) for mark in marks)

    def _begin(self, name: str, text: str) -> None:
        self._call = self._calls.begin(name)
        self._called = True
        self._parameters = self._calls.parameters(name)
        self._given = set()
        self._have_json = False
        self._text = text

    def _end_call(self, rest: str) -> None:
        assert self._call is not None
        if not self._have_json:
            self._calls.more(self._call, "}" if self._given else NO_ARGUMENTS)
        self._calls.end()
        self._call = None
        self._text = rest

    def _read_argument(self, call: int) -> bool:
        """Find the next argument or the call's end; False if that needs more text."""
        text = self._text.lstrip()
        tags = self._tags
        if tags.noise is not None and (noise := tags.noise.match(text)):
            self._text = text[noise.end() :]
            return True
        found = tags.argument.match(text)
        if found is not None and self._have_json:
            self._end_call(text)
            return True
        if found is not None:
            self._begin_value(call, found)
            self._text = text[found.end() :]
            return True
        if tags.call_end and text.startswith(tags.call_end):
            self._end_call(text[len(tags.call_end) :] if tags.call_end != self._end else text)
            return True
        if (self._end and text.startswith(self._end)) or (tags.call_start and text.startswith(tags.call_start)):
            self._end_call(text)
            return True
        if text.startswith("{") and not self._given and not self._have_json:
            self._json, self._text = LooseJson(ends=(tags.call_end or self._end, self._start)), text
            return True
        marks = (tags.argument_start, tags.call_end, self._end, tags.call_start, *tags.noise_starts)
        if not text or (len(text) <= MOST_TAG and self._begins(text, marks)):
            if self._final:
                self._end_call("")
            return self._final
        return self._read_raw(call)

    def _read_raw(self, call: int) -> bool:
        """Read text in the place of arguments that is none: it is passed on as it was written if there is nothing else,
        and is text between calls otherwise."""
        stops = MarkerMatcher(mark for mark in (self._tags.call_end, self._end) if mark)
        found = stops.find(self._text)
        if found is None and not self._final:
            return False
        at, mark = found or (len(self._text), "")
        raw, rest = self._text[:at], self._text[at + len(mark) if mark == self._tags.call_end != self._end else at :]
        if self._given or self._have_json:
            self._end_call(rest)
            self._calls.say(raw)
            return True
        self._calls.more(call, plain_arguments(raw) or NO_ARGUMENTS)
        self._calls.end()
        self._call = None
        self._text = rest
        return True

    def _read_json(self, value: LooseJson) -> bool:
        """Read arguments that are one object after all."""
        assert self._call is not None
        self._calls.more(self._call, value.feed(self._text))
        self._text = ""
        if self._final and not value.over:
            self._calls.more(self._call, value.finish())
        if not value.over:
            return False
        self._json, self._have_json = None, True
        self._text = value.unread
        return True

    def _begin_value(self, call: int, found: re.Match[str]) -> None:
        key = found["key"].strip()
        kind = found.groupdict().get("kind")
        self._calls.more(call, f"{', ' if self._given else '{'}{json.dumps(key, ensure_ascii=False)}: ")
        text = None if kind is None else kind == self._tags.text
        kinds = self._parameters.kinds(key) if text is None else frozenset()
        self._value = Value(kinds, text=text, cdata=self._tags.cdata)
        self._given.add(key)
        self._begun, self._depth = False, 0

    def _read_value(self, value: Value) -> bool:
        """Read up to the next tag; False if that needs more text."""
        if self._text and not self._begun:
            self._begun = True
            self._text = self._text.removeprefix("\n" if self._tags.padded else "")
        found = self._inside.find(self._text)
        if found is None:
            self._take(value, len(self._text) - self._held(self._text))
            if self._final:
                self._close(value, "")
            return self._final
        at, mark = found
        ends = self._ends(mark, self._text[at + len(mark) :], at)
        if ends is None:
            self._take(value, at - self._padding(at))
            return False
        if not ends:
            self._take(value, at + len(mark))
            return True
        rest = self._text[at:]
        self._take(value, at - self._padding(at))
        self._close(value, rest.removeprefix(self._tags.argument_end))
        return True

    def _take(self, value: Value, length: int) -> None:
        assert self._call is not None
        self._calls.more(self._call, value.take(self._text[:length]) if length > 0 else "")
        self._text = self._text[max(0, length) :]

    def _close(self, value: Value, rest: str) -> None:
        assert self._call is not None
        self._calls.more(self._call, value.close())
        self._value = None
        self._text = rest

    def _padding(self, at: int) -> int:
        return int(self._tags.padded and self._text[:at].endswith("\n"))

    def _held(self, text: str) -> int:
        """The number of characters at a text's end that may belong to the value's end."""
        held = self._inside.held(text)
        return held + self._padding(len(text) - held)

    def _ends(self, mark: str, after: str, at: int) -> bool | None:
        """Whether a tag ends the value; None if that needs more text."""
        if mark == self._tags.argument_start:
            return self._opens_another(at)
        if self._depth:
            self._depth -= mark == self._tags.argument_end
            return False
        following: tuple[str, ...]
        if mark == self._tags.argument_end:
            following = (self._tags.argument_start, self._tags.call_end, self._end)
        elif mark == self._end:
            following = (self._start,)
        else:
            following = (self._end, self._tags.call_start)
        return self._followed(after.lstrip(), following)

    def _followed(self, after: str, marks: tuple[str, ...]) -> bool | None:
        if not after:
            return True if self._final else None
        if any(mark and after.startswith(mark) for mark in marks):
            return True
        return None if not self._final and self._begins(after, marks) else False

    def _opens_another(self, at: int) -> bool | None:
        """Whether an argument begins here; one that the function does not have is part of the value."""
        found = self._tags.argument.match(self._text, at)
        if found is None:
            waits = not self._final and len(self._text) - at <= MOST_TAG
            return None if waits else False
        key = found["key"].strip()
        known = self._parameters.known
        if not self._depth and key not in self._given and (key in known or not known):
            return True
        self._depth += 1
        return False
