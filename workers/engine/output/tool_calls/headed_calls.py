"""Calls whose arguments stand in one piece after a head that names the function, read while they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlx_server.workers.engine.output.tool_calls.calls import NO_ARGUMENTS, Rest, ToolCalls
from mlx_server.workers.engine.output.tool_calls.loose_json import JSON, LooseJson, Notation, plain_arguments
from mlx_server.workers.engine.output.tool_calls.marker_matcher import MarkerMatcher

MOST_HEAD = 400
"""The most characters before the next call."""

KEYWORDS = re.compile(r"\(\s*(?:\)|[^\W\d]\w*\s*=)")
POSITIONAL = re.compile(r"\(\s*(?:[^\w\s)]|\d|\w+\s*[^\w\s=])")


@dataclass(frozen=True, slots=True)
class Heads:
    """One family's calls. `head` matches the text before the arguments, and its group is the function's name.

    `call_end` is a mark after the arguments. `between` matches other text that may stand between calls.
    """

    head: re.Pattern[str]
    notation: Notation = JSON
    call_end: str = ""
    between: re.Pattern[str] = re.compile(r"\s+")


class HeadedCalls:
    """One block of calls up to the mark `end`, or up to `leave`, which breaks a block off.

    Arguments that are no object are passed on as they were written.
    """

    def __init__(self, calls: ToolCalls, heads: Heads, marks: tuple[str, str], leave: str | None = None) -> None:
        self._calls = calls
        self._heads = heads
        self._start, self._end = marks
        self._marks = MarkerMatcher(mark for mark in (self._end, leave) if mark)
        self._stops = MarkerMatcher(mark for mark in (self._end, leave, heads.call_end) if mark)
        self._text = ""
        self._call: int | None = None
        self._called = False
        self._value: LooseJson | None = None
        self._final = False

    def feed(self, text: str) -> Rest | None:
        """Take more text; None while the block goes on."""
        self._text += text
        while not self._calls.complete:
            if self._value is not None:
                if not self._read_value(self._value):
                    return None
            elif self._call is not None:
                if not self._read_opening(self._call):
                    return None
            elif (rest := self._read_head()) is not None:
                return rest
            elif self._call is None:
                return None
        return Rest("")

    def flush(self, *, cut: bool) -> Rest:
        """End the text inside the block."""
        if cut and self._call is not None:
            begun = self._text.lstrip().startswith(self._heads.notation.opener)
            raw = "" if begun else self._text
            self._calls.more(self._call, raw if self._value is None else self._value.cut())
            return Rest("")
        self._final = True
        rest = self.feed("")
        if rest is not None:
            return rest
        text = self._text[: len(self._text) - self._marks.held(self._text)] if self._called else self._text
        return Rest(self._remains(text), failed=not self._called)

    def _read_head(self) -> Rest | None:
        """Find the next call; None if there is one, or if it needs more text."""
        head = self._heads.head.search(self._text)
        mark = self._marks.find(self._text)
        if mark is not None and (head is None or mark[0] < head.start()):
            return self._ended(*mark)
        if head is None:
            lost = len(self._text) > MOST_HEAD
            return Rest(self._text, failed=not self._called) if lost else None
        name = head.group(1).strip()
        if not self._calls.takes(name):
            return Rest(self._text, failed=not self._called)
        if self._called:
            self._calls.say(self._remains(self._text[: head.start()]))
        self._call = self._calls.begin(name)
        self._called = True
        self._text = self._text[head.end() :]
        return None

    def _remains(self, text: str) -> str:
        """The text between calls that belongs to none."""
        return self._heads.between.sub(" ", text).strip() and text

    def _ended(self, at: int, mark: str) -> Rest:
        if not self._called:
            return Rest(self._text, failed=True)
        self._calls.say(self._remains(self._text[:at]))
        closed = mark == self._end
        return Rest(self._text[at + len(mark) if closed else at :], closed=closed)

    def _read_opening(self, call: int) -> bool:
        """Find out what the arguments are; False if that needs more text."""
        text = self._text.lstrip()
        if not text and not self._final:
            return False
        if text.startswith(self._heads.notation.opener):
            keywords = self._keywords(text)
            if keywords is None:
                return False
            if keywords:
                self._value, self._text = LooseJson(self._heads.notation, (self._end, self._start)), text
                return True
        return self._read_raw(call)

    def _keywords(self, text: str) -> bool | None:
        """Whether all arguments have names; None if that needs more text."""
        if not self._heads.notation.python or KEYWORDS.match(text):
            return True
        return False if POSITIONAL.match(text) else self._final or None

    def _read_raw(self, call: int) -> bool:
        """Read arguments that are no object, up to the call's end."""
        found = self._stops.find(self._text)
        if found is None and not self._final:
            return False
        at, mark = found or (len(self._text), "")
        self._calls.more(call, plain_arguments(self._text[:at]) or NO_ARGUMENTS)
        self._end_call(self._text[at + len(mark) if mark == self._heads.call_end else at :])
        return True

    def _read_value(self, value: LooseJson) -> bool:
        """Pass on arguments; False if they go on."""
        assert self._call is not None
        self._calls.more(self._call, value.feed(self._text))
        self._text = ""
        if self._final and not value.over:
            self._calls.more(self._call, value.finish())
        if value.over:
            self._end_call(value.unread)
        return value.over

    def _end_call(self, rest: str) -> None:
        self._calls.end()
        self._call = self._value = None
        self._text = rest
