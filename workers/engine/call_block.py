"""One block of calls, read by whoever can read what stands in it."""

from __future__ import annotations

from mlx_server.workers.engine.calls import Calls, Rest
from mlx_server.workers.engine.headed_calls import HeadedCalls
from mlx_server.workers.engine.json_calls import JsonCalls
from mlx_server.workers.engine.parsed_calls import ParsedCalls
from mlx_server.workers.engine.tool_formats import ToolFormat


class Block:
    """What stands after a format's start mark. Where it is JSON it is read as that: models fall back on it.

    `leave` is a mark that breaks the block off: the end of the reasoning that it stands in.
    """

    def __init__(self, calls: Calls, format_: ToolFormat, leave: str | None = None) -> None:
        self._calls = calls
        self._format = format_
        self._leave = leave
        self._space = ""
        self._reader: JsonCalls | HeadedCalls | ParsedCalls | None = None

    def feed(self, text: str) -> Rest | None:
        """Read on; None while the block goes on."""
        if self._reader is None:
            text, self._space = self._space + text, ""
            if not text.strip():
                self._space = text
                return None
            self._reader = self._pick(text.lstrip()[0])
        return self._reader.feed(text)

    def flush(self) -> Rest:
        """The text has ended inside the block."""
        return Rest(self._space, failed=True) if self._reader is None else self._reader.flush()

    def _pick(self, first: str) -> JsonCalls | HeadedCalls | ParsedCalls:
        format_ = self._format
        if format_.json or (first in "{[" and not format_.lists):
            return JsonCalls(self._calls, format_.end)
        if format_.head is not None:
            return HeadedCalls(self._calls, format_.head, format_.end, self._leave)
        return ParsedCalls(self._calls, format_, self._leave)
