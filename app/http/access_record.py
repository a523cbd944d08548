"""The facts that the access log has of a request beside its path and status; never a client's text."""

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

    __slots__ = ("client", "joined", "key", "model", "reason", "status", "ticket")

    def __init__(self, client: str | None = None) -> None:
        self.client = client
        """The address that it came from, where that is to be told."""
        self.key: str | None = None
        """The name that the configuration gives the API key."""
        self.model: str | None = None
        self.joined = False
        """It has the answer of an earlier request, whose line counts the tokens."""
        self.ticket: Ticket | None = None
        self.status: int | None = None
        """Of a refusal or a failure, also of one that came after the status line had been sent."""
        self.reason = ""

    def failed(self, status: int, reason: str, param: str | None) -> None:
        """It was refused, or failed. `param` is the path of a field; its first part is a name that the API gave it."""
        self.status = status
        field = FIELD.match(param) if param is not None and reason != UNKNOWN_FIELD else None
        self.reason = reason if field is None else f"{reason} param={field[0]}"

    def joins(self, earlier: AccessRecord) -> None:
        """It gets the answer that an earlier request has begun."""
        self.model, self.joined = earlier.model, True

    def facts(self) -> dict[str, str | int | float]:
        """What there is to tell, by name; times are seconds."""
        facts: dict[str, str | int | float] = {}
        for what, name in (("client", self.client), ("key", self.key), ("model", self.model)):
            if name is not None:
                facts[what] = printable(name)
        if self.joined:
            facts["joined"] = 1
        if self.ticket is not None:
            facts |= spent(self.ticket)
        return facts | ({"error": self.reason} if self.reason else {})

    def details(self) -> str:
        """The same as the end of a line of text, with a space before each part."""
        return "".join(f" {name}={value}" for name, value in self.facts().items())


def record_of(scope: Scope) -> AccessRecord:
    """A request's record; one that nobody reads where the log is not kept."""
    record: AccessRecord | None = scope.get(RECORD)
    return AccessRecord() if record is None else record


def spent(ticket: Ticket) -> dict[str, int | float]:
    """Tokens of the prompt, those of them that were cached, generated tokens, and what took how long, as far as known.

    The rate is that of writing, from the first token to the last.
    """
    facts: dict[str, int | float] = {}
    written = ticket.tokens_written
    if ticket.tokens_read:
        facts["in"] = ticket.tokens_read
    if ticket.state is TicketState.SERVED:
        facts["cached"] = ticket.cached_tokens
    if written:
        facts["out"] = written
    if ticket.started_at is not None:
        facts["queue_s"] = round(ticket.started_at - ticket.submitted_at, 3)
    if ticket.first_text_at is not None:
        facts["first_token_s"] = round(ticket.first_text_at - ticket.submitted_at, 3)
    if ticket.tokens_per_s is not None:
        facts["tokens_per_s"] = round(ticket.tokens_per_s, 1)
    return facts


def printable(text: str) -> str:
    """A path or a name as the log may have it: escaped and short, whatever the client sent."""
    return quote(text)[:200]
