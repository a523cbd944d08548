"""Who gets which rows: the tickets that want some, in their order, and the workers that have some."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator

from mlx_server.queue import placement, policy
from mlx_server.queue.account import Priority
from mlx_server.queue.beginnings import Readers
from mlx_server.queue.clock import Clock, Handle
from mlx_server.queue.pending import Pending
from mlx_server.queue.placement import Place
from mlx_server.queue.statistics import Statistics
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.queue.worker_slots import Backend, WorkerSlots

LOOK_AHEAD = 256
"""How many pending tickets are searched for some of the running class: it bounds the work, not the queue."""


class Scheduler:
    """In the order of `Pending`, on the worker with the most free rows, in turns where several have as many, so that
    the caches of all fill; like with like (see policy.select_next).

    A ticket declines rows for a worker that knows more of its prompt, if waiting there costs less than this spares
    (see placement.rather): for as long, at most, as reading takes that it would be spared. Others have those rows
    meanwhile; it keeps its place in the line for the worker that it waits for.
    A ticket stays on the worker that gave it its first row. One that is only prepared moves to where a row is free.

    While any other ticket lives, idle ones hold `idle_rows` at most, on all workers together, and overtake none.
    """

    def __init__(self, clock: Clock, statistics: Statistics, idle_rows: int = 0) -> None:
        self._clock = clock
        self._statistics = statistics
        self._wakening: tuple[float, Handle] | None = None
        """When the next ticket ceases to decline."""
        self._idle_rows = idle_rows
        self._idle: dict[int, Ticket] = {}
        """Idle tickets that run, by number."""
        self.urgent = 0
        """Tickets that live and are not idle."""
        self._pending = Pending(self.rows_of)
        self.all_slots: list[WorkerSlots] = []
        self._rows_by_owner: Counter[str] = Counter()
        self._readers: Readers[WorkerSlots] = {}

    @property
    def credits(self) -> int:
        """Rows that all workers grant."""
        return sum(slots.credits for slots in self.all_slots)

    @property
    def chooses(self) -> bool:
        """There are several workers that a ticket may go to."""
        return len(self.all_slots) > 1

    @property
    def rows_used(self) -> int:
        """Rows in use on all workers."""
        return sum(slots.rows_used for slots in self.all_slots)

    def rows_of(self, owner: str) -> int:
        """Rows that one key's tickets hold on all workers."""
        return self._rows_by_owner[owner]

    @property
    def waiting(self) -> Iterator[Ticket]:
        """Those that have no row yet, or have made way, in their order."""
        return (ticket for ticket in self._pending if ticket.state is not TicketState.RUNNING)

    def position(self, ticket: Ticket) -> int | None:
        """Its position among those that wait, 1 for the first; None if it has a row."""
        return next((position for position, other in enumerate(self.waiting, 1) if other is ticket), None)

    def add_slots(self, backend: Backend) -> WorkerSlots:
        """A worker that will take work once it has credits."""
        slots = WorkerSlots(backend, self._rows_by_owner, self._readers)
        self.all_slots.append(slots)
        return slots

    def add(self, ticket: Ticket) -> None:
        """Take in a new ticket."""
        self.urgent += ticket.priority is not Priority.IDLE
        self._pending.add(ticket)

    def requeue(self, tickets: Iterable[Ticket]) -> None:
        """Tickets that start over take the places that they had."""
        for ticket in tickets:
            self._idle.pop(ticket.id, None)
            self._pending.requeue(ticket)

    def remove(self, ticket: Ticket) -> None:
        """A ticket wants nothing any more: its worker gets everything back."""
        self.urgent -= ticket.priority is not Priority.IDLE
        self._idle.pop(ticket.id, None)
        self._pending.remove(ticket)
        if ticket.slots is not None:
            ticket.slots.release(ticket)

    def schedule(self, now: float) -> None:
        """Grant free rows to those who are next; idle tickets make way for the others."""
        self._pending.now = now
        for ticket in reversed([ticket for ticket in self._idle.values() if ticket.rows_held and ticket.may_park]):
            if self._idle_rows_left >= 0:
                break
            self._park(ticket)
        self._serve_all(now)
        while in_the_way := next(filter(None, map(self._idle_in_the_way, self.all_slots)), []):
            for ticket in in_the_way:
                self._park(ticket)
            self._serve_all(now)

    def announce(self, ticket: Ticket) -> None:
        """Let a worker prepare a ticket that has no row yet: a prompt it can't take is refused without waiting.

        Not one that a worker knew when it died: if it was the cause, it must not cost those before it another life.
        """
        if ticket.slots is None and not ticket.survived_a_worker:
            ready = (slots for slots in self.all_slots if slots.credits and not slots.closing)
            slots = min(ready, key=lambda slots: (-slots.free_rows, slots.tickets), default=None)
            if slots is not None:
                self._wanted(ticket, slots).prepare(ticket)

    def announce_all(self) -> None:
        """Let workers prepare whoever has to wait."""
        for ticket in self.waiting:
            self.announce(ticket)

    @property
    def _idle_rows_left(self) -> float:
        """How many more rows idle tickets may hold; below 0 where they hold too many."""
        if not self.urgent:
            return math.inf
        return self._idle_rows - sum(ticket.rows_held for ticket in self._idle.values())

    def _serve_all(self, now: float) -> None:
        while any(self._serve(slots, now) for slots in self._free_slots()):
            pass

    def _idle_in_the_way(self, slots: WorkerSlots) -> list[Ticket]:
        """The tickets that run on a worker, if they are all idle, may be parked, and are of another class than the
        next one there that isn't idle."""
        here = [one for one in self._idle.values() if one.slots is slots and one.rows_held] if self.urgent else []
        if not here or sum(one.rows_held for one in here if one.may_park) < slots.rows_used:
            return []
        urgent = (one for one in self._candidates(slots) if one.priority is not Priority.IDLE)
        following = next(urgent, None)
        return [] if following is None or following.batch_class == slots.running else here

    def _park(self, ticket: Ticket) -> None:
        assert ticket.slots is not None
        del self._idle[ticket.id]
        ticket.slots.park(ticket)
        self._pending.requeue(ticket)

    def _free_slots(self) -> list[WorkerSlots]:
        """In the order in which they are offered: first where the next ticket wants to go. Of those that are the same
        to all tickets, one: there may be hundreds."""
        free = [slots for slots in self.all_slots if slots.free_rows > 0]
        if len(free) < 2:
            return free
        ahead = list(itertools.islice(self._pending, LOOK_AHEAD))
        if not ahead:
            return []
        peculiar = {slots for ticket in ahead for slots in (ticket.slots, *self._readers_of(ticket))}
        offered: dict[object, WorkerSlots] = {}
        for slots in free:
            alike = slots if slots in peculiar else (slots.running, slots.closing, slots.credits, slots.free_rows)
            if slots.latest < offered.setdefault(alike, slots).latest:
                offered[alike] = slots
        found = sorted(offered.values(), key=lambda slots: (-slots.free_rows, slots.latest))
        wanted = self._wanted(ahead[0], found[0])
        return sorted(found, key=lambda slots: slots is not wanted)

    def _candidates(self, slots: WorkerSlots) -> Iterator[Ticket]:
        ahead: Counter[WorkerSlots] = Counter()  # rows that tickets before each one wait for
        for ticket in itertools.islice(self._pending.servable(), LOOK_AHEAD):
            if ticket.priority is Priority.IDLE and self._idle_rows_left <= 0:
                continue
            if ticket.state is TicketState.WAITING:
                if slots.closing:
                    continue
                better = self._better(ticket, slots, ahead)
                if better is not None and self._waits(ticket, better[1]):
                    ahead[better[0]] += ticket.rows_missing
                else:
                    yield ticket
            elif ticket.slots is slots:
                yield ticket

    def _readers_of(self, ticket: Ticket) -> Iterable[WorkerSlots]:
        """Workers that know something of a ticket's prompt."""
        return self._readers.get(ticket.beginnings[0].key, ()) if self.chooses and ticket.beginnings else ()

    def _wanted(self, ticket: Ticket, slots: WorkerSlots) -> WorkerSlots:
        """This worker, or the one for which a ticket should decline it if nobody were before it."""
        better = self._better(ticket, slots, Counter())
        return slots if better is None else better[0]

    def _better(
        self, ticket: Ticket, slots: WorkerSlots, ahead: Counter[WorkerSlots]
    ) -> tuple[WorkerSlots, float] | None:
        """The worker, if any, for which a ticket should decline rows of this one, and the seconds that this spares."""
        if not (self.chooses and ticket.beginnings):
            return None
        own = slots.known.longest(ticket.beginnings)
        others = {
            other: place_of(ticket, other, known, ahead[other])
            for other in self._readers_of(ticket)
            if (known := other.known.longest(ticket.beginnings)) > own
            and not other.closing
            and other.running in (None, ticket.batch_class)
        }
        statistics = self._statistics
        pace = policy.pace(statistics.mean_service_s, statistics.prefill_s)
        offered = place_of(ticket, slots, own, ahead[slots])
        best = placement.rather(offered, others, pace)
        return None if best is None else (best, placement.spared_s(others[best], offered, pace))

    def _waits(self, ticket: Ticket, spared_s: float) -> bool:
        """Whether a ticket may still wait for a better worker; it is asked again when it may no longer."""
        now = self._pending.now
        if ticket.held_since is None:
            ticket.held_since = now
        until = ticket.held_since + spared_s
        if until <= now:
            return False
        if self._wakening is None or until < self._wakening[0]:
            if self._wakening is not None:
                self._wakening[1].cancel()
            self._wakening = until, self._clock.call_at(until, self._wake)
        return True

    def _wake(self) -> None:
        self._wakening = None
        self.schedule(self._clock.time())

    def _serve(self, slots: WorkerSlots, now: float) -> bool:
        """Give free rows of a worker to the next one; whether there was one."""
        facts = ((ticket.batch_class, ticket.overtaken) for ticket in self._candidates(slots))
        selection = policy.select_next(facts, slots.running, slots.credits)
        if selection is None:
            return False
        *overtaken, ticket = itertools.islice(self._candidates(slots), selection.position + 1)
        if ticket.priority is Priority.IDLE and any(other.priority is not Priority.IDLE for other in overtaken):
            return False
        limits = (selection.most_rows, self._pending.rows_left(ticket))
        rows = min(ticket.rows_missing, slots.free_rows, *(limit for limit in limits if limit is not None))
        if ticket.priority is Priority.IDLE:
            rows = int(min(rows, self._idle_rows_left))
        for other in overtaken:
            other.overtaken += rows
        if not ticket.starts and ticket.priority is not Priority.IDLE:
            self._statistics.queue_s.observe(now - ticket.submitted_at)
        if ticket.slots is not None and ticket.slots is not slots:
            ticket.slots.cancel(ticket)
            ticket.slots.release(ticket)
        if ticket.state is TicketState.WAITING:
            self._know(ticket, slots)
        slots.run(ticket, rows, now)
        if ticket.priority is Priority.IDLE:
            self._idle[ticket.id] = ticket
        self._pending.served(ticket)
        if not ticket.rows_missing:
            self._pending.remove(ticket)
        return True

    def _know(self, ticket: Ticket, slots: WorkerSlots) -> None:
        """A ticket starts there, and its prompt is known there from now on."""
        if self.chooses and ticket.beginnings:
            most = max((one.known.longest(ticket.beginnings) for one in self._readers_of(ticket)), default=0)
            self._statistics.placements[placement.placement(slots.known.longest(ticket.beginnings), most)] += 1
            slots.known.add(ticket.beginnings)


def place_of(ticket: Ticket, slots: WorkerSlots, known: int, ahead: int) -> Place:
    """A worker as a ticket sees it that has beginnings, of which so many characters are known there, behind others that
    wait for `ahead` of its rows."""
    forgotten = slots.known.forgotten_for(ticket.beginnings[-1].known - known)
    return Place(known, slots.rows_used + ahead, slots.credits, forgotten)
