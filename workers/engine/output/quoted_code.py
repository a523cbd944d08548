"""Whether a text ends inside code that Markdown quotes."""

from __future__ import annotations

import re

FENCE = re.compile(r"\s*(`{3,}|~{3,})")
TICKS = re.compile("`+")


class QuotedCode:
    """Follows a text. Blocks between fences and spans between backticks are code; a span ends with its line, and a block
    with its fence, whether or not a line break follows that."""

    def __init__(self) -> None:
        self._fence = ""
        """The fence that opened the block."""
        self._line: list[str] = []

    @property
    def open(self) -> bool:
        """Whether the next text is code."""
        if self._fence:
            return not self._ends_block("".join(self._line))
        span = ""
        for ticks in TICKS.findall("".join(self._line)):
            span = ticks if not span else "" if ticks == span else span
        return bool(span)

    def feed(self, text: str) -> None:
        """Take more text."""
        *lines, last = text.split("\n")
        for line in lines:
            self._line.append(line)
            self._end_line("".join(self._line))
            self._line = []
        self._line.append(last)

    def _end_line(self, line: str) -> None:
        found = FENCE.match(line)
        if found is None:
            return
        if not self._fence:
            self._fence = found.group(1) if "`" not in line[found.end() :] else ""
        elif self._ends_block(line):
            self._fence = ""

    def _ends_block(self, line: str) -> bool:
        found = FENCE.match(line)
        return found is not None and found.group(1).startswith(self._fence) and not line[found.end() :].strip()
