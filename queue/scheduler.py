"""Who gets which rows: the tickets that want some, in their order, and the workers that have some."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from mlx_server.queue import policy
from mlx_server.queue.account import Priority
from mlx_server.queue.pending import Pending
from mlx_server.queue.statistics import Histogram
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.queue.worker_slots import WorkerSlots

LOOK_AHEAD = 256
"""How many pending tickets are searched for some of the running class: it bounds the work, not the queue."""

MAX_AFFINITIES = 1024
"""Conversations whose workers are remembered."""


class Scheduler:
    """In the order of `Pending`, on the worker with the most free rows; like with like (see policy.select_next).

    A conversation goes on where it was, if a row is free there: that worker knows what has been said.
    A ticket stays on the worker that gave it its first row. One that is only prepared moves to where a row is free.

    While any other ticket lives, idle ones hold `idle_rows` at most, on all workers together.
    """

    def __init__(self, waits_s: Histogram, idle_rows: int = 0) -> None:
        self._waits_s = waits_s
        self._idle_rows = idle_rows
        self._parkable: dict[int, Ticket] = {}
        """Idle tickets that run and may be parked, by number."""
        self.urgent = 0
        """Tickets that live and are not idle."""
        self._pending = Pending(self.rows_of)
        self._affinity: OrderedDict[tuple[str, str], WorkerSlots] = OrderedDict()
        """Where conversations were last."""
        self.all_slots: list[WorkerSlots] = []

    @property
    def credits(self) -> int:
        """Rows that all workers grant."""
        return sum(slots.credits for slots in self.all_slots)

    @property
    def rows_used(self) -> int:
        """Rows in use on all workers."""
        return sum(slots.rows_used for slots in self.all_slots)

    def rows_of(self, owner: str) -> int:
        """Rows that one key's tickets hold on all workers."""
        return sum(slots.rows_by_owner[owner] for slots in self.all_slots)

    @property
    def waiting(self) -> Iterator[Ticket]:
        """Those that have no row yet, or have made way, in their order."""
        return (ticket for ticket in self._pending if ticket.state is not TicketState.RUNNING)

    def position(self, ticket: Ticket) -> int | None:
        """Its position among those that wait, 1 for the first; None if it has a row."""
        return next((position for position, other in enumerate(self.waiting, 1) if other is ticket), None)

    def add(self, ticket: Ticket) -> None:
        """Take in a new ticket."""
        self.urgent += ticket.priority is not Priority.IDLE
        self._pending.add(ticket)

    def requeue(self, tickets: Iterable[Ticket]) -> None:
        """Tickets that start over take the places that they had."""
        for ticket in tickets:
            self._parkable.pop(ticket.id, None)
            self._pending.requeue(ticket)

    def remove(self, ticket: Ticket) -> None:
        """A ticket wants nothing any more: its worker gets everything back."""
        self.urgent -= ticket.priority is not Priority.IDLE
        self._parkable.pop(ticket.id, None)
        self._pending.remove(ticket)
        if ticket.slots is not None:
            ticket.slots.release(ticket)

    def schedule(self, now: float) -> None:
        """Grant free rows to those who are next; idle tickets make way for the others."""
        self._pending.now = now
        for ticket in reversed([ticket for ticket in self._parkable.values() if ticket.rows_held]):
            if self._idle_rows_left >= 0:
                break
            self._park(ticket)
        while any(self._serve(slots, now) for slots in self._free_slots()):
            pass

    def announce(self, ticket: Ticket) -> None:
        """Let a worker prepare a ticket that has no row yet: a prompt it can't take is refused without waiting.

        Not one that a worker knew when it died: if it was the cause, it must not cost those before it another life.
        """
        if ticket.slots is None and not ticket.survived_a_worker:
            ready = (slots for slots in self.all_slots if slots.credits and not slots.closing)
            slots = min(ready, key=lambda slots: (-slots.free_rows, slots.tickets), default=None)
            if slots is not None:
                slots.prepare(ticket)

    def announce_all(self) -> None:
        """Let workers prepare whoever has to wait."""
        for ticket in self.waiting:
            self.announce(ticket)

    @property
    def _idle_rows_left(self) -> float:
        """How many more rows idle tickets may hold; below 0 where they hold too many."""
        if not self.urgent:
            return math.inf
        return self._idle_rows - sum(ticket.rows_held for ticket in self._parkable.values())

    def _park(self, ticket: Ticket) -> None:
        assert ticket.slots is not None
        del self._parkable[ticket.id]
        ticket.slots.park(ticket)
        self._pending.requeue(ticket)

    def _free_slots(self) -> list[WorkerSlots]:
        free = [slots for slots in self.all_slots if slots.free_rows > 0]
        if len(free) < 2:
            return free
        first = next(self.waiting, None)
        preferred = None if first is None or first.conversation is None else self._affinity.get(first.conversation)
        return sorted(free, key=lambda slots: (slots is not preferred, -slots.free_rows))

    def _candidates(self, slots: WorkerSlots) -> Iterator[Ticket]:
        for ticket in itertools.islice(self._pending.servable(), LOOK_AHEAD):
            if ticket.priority is Priority.IDLE and self._idle_rows_left <= 0:
                continue
            if ticket.state is TicketState.WAITING:
                if not slots.closing:
                    yield ticket
            elif ticket.slots is slots:
                yield ticket

    def _serve(self, slots: WorkerSlots, now: float) -> bool:
        """Give free rows of a worker to the next one; whether there was one."""
        facts = ((ticket.batch_class, ticket.overtaken) for ticket in self._candidates(slots))
        selection = policy.select_next(facts, slots.running, slots.credits)
        if selection is None:
            return False
        *overtaken, ticket = itertools.islice(self._candidates(slots), selection.position + 1)
        limits = (selection.most_rows, self._pending.rows_left(ticket))
        rows = min(ticket.rows_missing, slots.free_rows, *(limit for limit in limits if limit is not None))
        if ticket.priority is Priority.IDLE:
            rows = int(min(rows, self._idle_rows_left))
        for other in overtaken:
            other.overtaken += rows
        if not ticket.starts and ticket.priority is not Priority.IDLE:
            self._waits_s.observe(now - ticket.submitted_at)
        if ticket.slots is not None and ticket.slots is not slots:
            ticket.slots.cancel(ticket)
            ticket.slots.release(ticket)
        slots.run(ticket, rows, now)
        if ticket.may_park:
            self._parkable[ticket.id] = ticket
        self._pending.served(ticket)
        if ticket.conversation is not None:
            self._affinity[ticket.conversation] = slots
            self._affinity.move_to_end(ticket.conversation)
            if len(self._affinity) > MAX_AFFINITIES:
                self._affinity.popitem(last=False)
        if not ticket.rows_missing:
            self._pending.remove(ticket)
        return True
