"""One worker as the queue sees it: the rows that it grants, and which tickets it knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from mlx_server.queue.beginnings import KnownBeginnings, Readers
from mlx_server.queue.policy import BatchClass
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.work import Work


class Backend(Protocol):
    """Whoever runs the requests. None of the calls waits or raises; lost messages are reported by `lost`."""

    def submit(self, ticket: int, request: Work, rows: int, request_id: str | None) -> None:
        """Prepare a request, and run it on `rows` rows (none yet if 0); the log knows it by its id."""

    def grant(self, ticket: int, rows: int) -> None:
        """Run more of its sequences."""

    def park(self, ticket: int) -> None:
        """Stop it until it is granted rows again, and keep what it has said; its rows count as free at once."""

    def cancel(self, ticket: int) -> None:
        """Stop it; its rows count as free at once."""


class WorkerSlots:
    """A backend with `credits` rows, none while it takes no work; a ticket is on one worker at a time.
    `rows_by_owner` counts the rows that each key's tickets hold on all workers, `readers` says what these know.

    Slots that are `closing` take no new tickets, but those that run on them go on.
    """

    def __init__(self, backend: Backend, rows_by_owner: Counter[str], readers: Readers[WorkerSlots]) -> None:
        self._backend = backend
        self._class: BatchClass | None = None
        self.credits = 0
        self.rows_used = 0
        self._rows_by_owner = rows_by_owner
        self.closing = False
        self.empty = asyncio.Event()
        """Set while no row is used."""
        self.empty.set()
        self.known = KnownBeginnings(self, readers)
        """What its worker has been given to read."""
        self.latest = 0
        """The ticket that got rows here last."""
        self.tickets = 0
        """How many its worker knows, prepared and running."""

    @property
    def free_rows(self) -> int:
        """Rows that a ticket may have now."""
        return self.credits - self.rows_used

    @property
    def running(self) -> BatchClass | None:
        """What all have in common that run here; None while nothing does."""
        return self._class if self.rows_used else None

    def prepare(self, ticket: Ticket) -> None:
        """Have a ticket made ready that has no row yet."""
        self._take(ticket)
        self._backend.submit(ticket.id, ticket.request, 0, ticket.request_id)

    def run(self, ticket: Ticket, rows: int, now: float) -> None:
        """Give a ticket that is here or nowhere `rows` more rows."""
        already_here = ticket.slots is self
        if not already_here:
            self._take(ticket)
        self._class = ticket.batch_class
        self.latest = ticket.id
        self.rows_used += rows
        self._rows_by_owner[ticket.account.owner] += rows
        self.empty.clear()
        ticket.grant(rows, now)
        if already_here:
            self._backend.grant(ticket.id, rows)
        else:
            self._backend.submit(ticket.id, ticket.request, rows, ticket.request_id)

    def finish_row(self, ticket: Ticket) -> None:
        """One of a ticket's sequences has come to its end."""
        held = ticket.rows_held
        ticket.row_done()
        self._free(ticket, held - ticket.rows_held)

    def park(self, ticket: Ticket) -> None:
        """Have a ticket make way."""
        self._backend.park(ticket.id)
        self._free(ticket, ticket.rows_held)
        ticket.park()

    def cancel(self, ticket: Ticket) -> None:
        """Have the worker stop a ticket that it knows."""
        self._backend.cancel(ticket.id)

    def release(self, ticket: Ticket) -> None:
        """The ticket is here no longer, and its rows are free."""
        self._free(ticket, ticket.rows_held)
        self.tickets -= 1
        ticket.slots = None

    def _free(self, ticket: Ticket, rows: int) -> None:
        self.rows_used -= rows
        owner = ticket.account.owner
        self._rows_by_owner[owner] -= rows
        if not self._rows_by_owner[owner]:
            del self._rows_by_owner[owner]
        if not self.rows_used:
            self.empty.set()

    def _take(self, ticket: Ticket) -> None:
        assert ticket.slots is None
        ticket.slots = self
        self.tickets += 1
