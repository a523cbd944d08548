"""Lines of the log in both processes: text for people, or an object of JSON in each line, with the ids of requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

LogFormat = Literal["text", "json"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being worked on, where each has a task of its own."""


CHATTY = ("httpcore2", "httpx2", "python_multipart")
"""Their lines tell of each request that is made, and name the hosts of clients' URLs."""


def quieten() -> None:
    """Have libraries that tell of every step log only what is wrong."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class LineFormatter(logging.Formatter):
    """A process' lines. What is logged with `extra=about(...)` or within a request's task tells whose it is.

    `id_of` gives a ticket's request id, where the process knows it. A record that another process has made names it
    as `process_role`, and its requests as `request_ids`.
    """

    def __init__(self, process: str, form: LogFormat, id_of: Callable[[int], str | None] = lambda _: None) -> None:
        defaults = {"process_role": process}
        super().__init__("%(asctime)s %(levelname)-7s %(process_role)s %(message)s", defaults=defaults)
        self._process = process
        self._format = form
        self._id_of = id_of

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Part of logging: a line of text, before what was raised."""
        ids = self._ids(record)
        named = f" (request {', '.join(ids)})" if ids and not facts_of(record) else ""
        return super().formatMessage(record) + named

    def format(self, record: logging.LogRecord) -> str:
        """Part of logging."""
        if self._format == "text":
            return super().format(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": getattr(record, "process_role", self._process),
            "message": record.getMessage(),
        }
        if ids := self._ids(record):
            line["request_id"] = ids[0] if len(ids) == 1 else ids
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        return msgspec.json.encode(line | facts_of(record)).decode()

    def _ids(self, record: logging.LogRecord) -> list[str]:
        """Whose request a line is about."""
        if known := getattr(record, "request_ids", None):
            return list(known)
        found = dict.fromkeys(self._id_of(ticket) for ticket in getattr(record, "tickets", ()))
        return [one for one in found or (REQUEST_ID.get(),) if one]


def about(keys: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """What logging takes as `extra` of a line about these sequences."""
    return {"tickets": [ticket for ticket, _ in keys]}


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line tells beside its message, by name."""
    facts: dict[str, Any] = getattr(record, "facts", {})
    return facts
