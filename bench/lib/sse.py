"""Counting server-sent events without decoding them."""

import re
from collections import deque

# A quote inside a JSON string is escaped, so neither pattern can match inside generated text.
CONTENT = re.compile(rb'"(?:content|text)": ?"[^"]')
USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
PROMPT = re.compile(rb'"prompt_tokens": ?(\d+)')
CACHED = re.compile(rb'"cached_tokens": ?(\d+)')
ERROR = re.compile(rb'data: ?\{ ?"error"')
DONE = re.compile(rb"data: ?\[DONE\]")


class EventTally:
    """Counts the events of one response as its bytes arrive; keeps only the last few of them.

    `contents` counts the events that carry text: not the role chunk, the finish chunk or the usage chunk.
    """

    __slots__ = ("_last", "_tail", "contents", "events")

    def __init__(self) -> None:
        self.events = 0
        self.contents = 0
        self._tail = b""
        self._last: deque[bytes] = deque(maxlen=4)

    def feed(self, data: bytes) -> int:
        """Takes the bytes of one read; returns how many events with text it completed."""
        if self._tail:
            data = self._tail + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._tail = data
            return 0
        self._tail = data[end:]
        whole = data[:end]
        self.events += whole.count(b"\n\n")
        self._last.append(whole)
        contents = len(CONTENT.findall(whole))
        self.contents += contents
        return contents

    def usage_tokens(self) -> int | None:
        """`completion_tokens` of the final usage event, when the server sent one."""
        return self._last_number(USAGE)

    def prompt_tokens(self) -> int | None:
        """`prompt_tokens` of the final usage event, when the server sent one."""
        return self._last_number(PROMPT)

    def cached_tokens(self) -> int | None:
        """Prompt tokens that the server says it did not have to compute."""
        return self._last_number(CACHED)

    def ending(self) -> str:
        """How the stream ended: `ok` ([DONE]), `error_event`, or `incomplete` (neither)."""
        last = b"".join(self._last) + self._tail
        if ERROR.search(last):
            return "error_event"
        return "ok" if DONE.search(last) else "incomplete"

    def _last_number(self, pattern: re.Pattern[bytes]) -> int | None:
        found = pattern.findall(b"".join(self._last))
        return int(found[-1]) if found else None
