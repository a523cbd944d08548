"""Calls in a syntax that a library's parser reads, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlx_server.workers.engine.output.tool_calls.calls import Rest, ToolCalls, regular
from mlx_server.workers.engine.output.tool_calls.marker_matcher import MarkerMatcher

Parse = Callable[[str, Any], Any]
"""The text between the marks, and the functions in OpenAI's form, to calls; may raise anything."""


class ParsedCalls:
    """One block of calls up to the mark `end`, or up to `leave`, which breaks a block off."""

    def __init__(self, calls: ToolCalls, parse: Parse, end: str, leave: str | None = None) -> None:
        self._calls = calls
        self._parse = parse
        self._end = end
        self._marks = MarkerMatcher(mark for mark in (end, leave) if mark)
        self._longest = max(len(end), len(leave or ""))
        self._body = ""

    def feed(self, text: str) -> Rest | None:
        """Take more text; None while the block goes on."""
        known = max(0, len(self._body) - self._longest + 1)
        self._body += text
        found = self._marks.find(self._body, known)
        if found is None:
            return None
        at, mark = found
        if not self._pass_on(self._body[:at]):
            return Rest(self._body, failed=True)
        closed = mark == self._end
        return Rest(self._body[at + len(mark) if closed else at :], closed=closed)

    def flush(self, *, cut: bool) -> Rest:
        """End the text inside the block: the end mark may be missing, or more than that."""
        body = self._body[: len(self._body) - self._marks.held(self._body)]
        return Rest("") if self._pass_on(body) else Rest(self._body, failed=True)

    def _pass_on(self, body: str) -> bool:
        """Pass on the calls in `body`; False if there are none."""
        try:
            calls = regular(self._parse(body, self._calls.definitions()))
        except Exception:  # noqa: BLE001 - a model's parser may raise anything on what it does not understand
            return False
        if not all(self._calls.takes(name) for name, _ in calls):
            return False
        for name, arguments in calls:
            if not self._calls.complete:
                self._calls.more(self._calls.begin(name), arguments)
                self._calls.end()
        return True
