"""What the log says of a request beside its path and status. Nothing of it is a client's text."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.types import Scope

from mlx_server.queue.ticket import Ticket, TicketState

RECORD = "mlx_server.access"
"""Where a request's scope has its record."""

FIELD = re.compile(r"[a-z_]{1,40}")
UNKNOWN_FIELD = "unknown_parameter"


class AccessRecord:
    """What is found out about a request while it is answered."""

    __slots__ = ("key", "model", "reason", "status", "ticket")

    def __init__(self) -> None:
        self.key: str | None = None
        """The name that the configuration gives the API key."""
        self.model: str | None = None
        self.ticket: Ticket | None = None
        self.status: int | None = None
        """Of a refusal or a failure, also of one that came after the status line had been sent."""
        self.reason = ""

    def failed(self, status: int, reason: str, param: str | None) -> None:
        """It was refused, or failed. `param` is the path of a field; its first part is a name that the API gave it."""
        self.status = status
        field = FIELD.match(param) if param is not None and reason != UNKNOWN_FIELD else None
        self.reason = reason if field is None else f"{reason} param={field[0]}"

    def details(self) -> str:
        """The end of the line in the log, with a space before each part."""
        named = {"key": self.key, "model": self.model}
        parts = [f"{what}={printable(name)}" for what, name in named.items() if name is not None]
        if self.ticket is not None:
            parts += spent(self.ticket)
        if self.reason:
            parts.append(f"error={self.reason}")
        return "".join(f" {part}" for part in parts)


def record_of(scope: Scope) -> AccessRecord:
    """A request's record; one that nobody reads where the log is not kept."""
    record: AccessRecord | None = scope.get(RECORD)
    return AccessRecord() if record is None else record


def spent(ticket: Ticket) -> list[str]:
    """Tokens read, those of them that were known, tokens written and how fast, as far as that is known.

    The rate is that of writing, from the first token to the last, in tokens per second.
    """
    written = ticket.tokens_written
    parts = [f"in={ticket.tokens_read}"] if ticket.tokens_read else []
    if ticket.state is TicketState.SERVED:
        parts.append(f"cached={ticket.cached_tokens}")
    if written:
        parts.append(f"out={written}")
    seconds = 0.0 if ticket.first_text_at is None else ticket.last_event_at - ticket.first_text_at
    if written > 1 and seconds > 0:
        parts.append(f"tok/s={(written - 1) / seconds:.1f}")
    return parts


def printable(text: str) -> str:
    """A path or a name as the log may have it: escaped and short, whatever the client sent."""
    return quote(text)[:200]
