"""The last lines of this process's log and its workers', for those who look at it from afar."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from datetime import UTC, datetime

from mlx_server.schemas.live import LogLine, LogLines

MOST_LINES = 1000
MOST_CHARACTERS = 4000
"""Of a line; with what was raised, which is several lines of text."""


class RecentLogs(logging.Handler):
    """Keeps what is logged, from wherever it is logged in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._numbers = itertools.count(1)
        self._lines: deque[LogLine] = deque(maxlen=MOST_LINES)
        self.began = datetime.now(UTC).isoformat(timespec="microseconds")
        """ISO 8601, in UTC, to a microsecond: tells this process's log from that of the one before."""

    def emit(self, record: logging.LogRecord) -> None:
        """Part of logging, which holds a lock meanwhile."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = self.format(record)[:MOST_CHARACTERS]
        self._lines.append(LogLine(next(self._numbers), at, record.levelname.lower(), record.name, text))

    def after(self, number: int) -> LogLines:
        """Those that came after the line with this number, of too many the last; all is of one moment."""
        lines = list(self._lines)
        last = lines[-1].number if lines else 0
        return LogLines([line for line in lines if line.number > number], last, self.began)
