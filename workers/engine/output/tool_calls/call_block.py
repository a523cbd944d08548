"""One block of calls, given to the parser that fits its text."""

from __future__ import annotations

import re

from mlx_server.workers.engine.output.tool_calls.calls import Rest, ToolCalls
from mlx_server.workers.engine.output.tool_calls.headed_calls import HeadedCalls, Heads
from mlx_server.workers.engine.output.tool_calls.json_calls import JsonCalls
from mlx_server.workers.engine.output.tool_calls.parsed_calls import ParsedCalls
from mlx_server.workers.engine.output.tool_calls.tagged_calls import TaggedCalls, Tags
from mlx_server.workers.engine.output.tool_calls.tool_formats import ToolFormat

JSON_START = re.compile(r"\s*\[?\s*\{")

Reader = JsonCalls | HeadedCalls | TaggedCalls | ParsedCalls


class Block:
    """The text after a format's start mark. JSON is read as JSON whatever the format: models fall back on it.

    `leave` is a mark that breaks the block off: the end of the reasoning around it. `bare`: there was no start mark.
    """

    def __init__(self, calls: ToolCalls, format_: ToolFormat, leave: str | None = None, *, bare: bool = False) -> None:
        self._calls = calls
        self._format = format_
        self._leave = leave
        self._bare = bare
        self._held = ""
        self._reader: Reader | None = None

    def feed(self, text: str) -> Rest | None:
        """Take more text; None while the block goes on."""
        if self._reader is None:
            text, self._held = self._held + text, ""
            if text.strip() in ("", "["):
                self._held = text
                return None
            self._reader = self._pick(text)
        return self._reader.feed(text)

    def flush(self, *, cut: bool) -> Rest:
        """End the text inside the block; `cut`: because the answer has reached its greatest length."""
        return Rest(self._held, failed=True) if self._reader is None else self._reader.flush(cut=cut)

    def _pick(self, text: str) -> Reader:
        body, marks = self._format.body, (self._format.start, self._format.end)
        if body is None or JSON_START.match(text):
            return JsonCalls(self._calls, marks, bare=self._bare)
        match body:
            case Heads():
                return HeadedCalls(self._calls, body, marks, self._leave)
            case Tags():
                return TaggedCalls(self._calls, body, marks, self._leave)
        return ParsedCalls(self._calls, body, self._format.end, self._leave)
