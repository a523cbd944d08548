"""The queue of one deployment: admits requests, gives them rows, routes events back to their readers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Protocol, assert_never

from mlx_server.queue import policy
from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.queue.mailbox import Mailbox
from mlx_server.queue.statistics import Statistics
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.embedding import Work
from mlx_server.schemas.messages import (
    Failed,
    FailureKind,
    Finished,
    Part,
    Reasoning,
    Score,
    Started,
    StepEvent,
    Text,
    ToolCall,
    Vector,
)

ENDS = {FailureKind.TIMEOUT: TicketState.TIMED_OUT, FailureKind.INVALID: TicketState.INVALID}
"""Failures that are counted by themselves."""

LOOK_AHEAD = 256
"""How far down the line companions for the running class are looked for: it bounds the work, not the line."""


class Backend(Protocol):
    """Whoever runs the requests. None of the calls waits or raises; lost messages are reported by `lost`."""

    def submit(self, ticket: int, request: Work, rows: int) -> None:
        """Prepare a request, and run it on `rows` rows (none yet if 0)."""

    def grant(self, ticket: int, rows: int) -> None:
        """Run more of its sequences."""

    def cancel(self, ticket: int) -> None:
        """Stop it; its rows count as free at once."""


class Handle(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> None:
        """The callback will not be called."""


class Timers(Protocol):
    """The part of an event loop that the queue needs; a fake one moves the time in tests."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Call back at that time."""


class Dispatcher:
    """First come, first served, over `credits` rows that the worker grants; like with like (see policy.next_turn).

    What is bounded is the number of live tickets: `queue_size` may wait beside the `concurrency` that may run.
    """

    def __init__(
        self, backend: Backend, timers: Timers, *, queue_size: int, concurrency: int, timeout_s: float
    ) -> None:
        self._backend = backend
        self._timers = timers
        self._ids = itertools.count(1)
        self._live: dict[int, Ticket] = {}
        self._pending: dict[int, Ticket] = {}  # in order of arrival: those that still want rows
        self._timeouts: dict[int, Handle] = {}
        self._last_promise = 0.0
        self._closed: tuple[FailureKind, str] | None = None
        self._class: policy.BatchClass | None = None  # of what runs; means nothing while nothing does
        self.idle = asyncio.Event()
        """Set while no request lives."""
        self.idle.set()
        self.queue_size = queue_size
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.credits = 0
        self.rows_used = 0
        self.statistics = Statistics()

    # --- what readers ask ---

    @property
    def closed(self) -> bool:
        """No request is taken any more."""
        return self._closed is not None

    @property
    def live(self) -> int:
        """Requests waiting and running."""
        return len(self._live)

    @property
    def capacity(self) -> int:
        """How many requests may live: those that may wait, and those that the worker may run."""
        return self.queue_size + min(self.concurrency, self.credits or self.concurrency)

    @property
    def waiting(self) -> int:
        """Requests that have no row yet."""
        return sum(t.state is TicketState.WAITING for t in self._pending.values())

    @property
    def running(self) -> int:
        """Requests that hold rows."""
        return self.live - self.waiting

    @property
    def oldest_wait_s(self) -> float:
        """How long the first in line has waited, in seconds."""
        first = next((t for t in self._pending.values() if t.state is TicketState.WAITING), None)
        return self._timers.time() - first.submitted_at if first else 0.0

    # --- what clients do ---

    def check_room(self) -> None:
        """Raise QueueFull or QueueClosed if a request would be refused now: ask before work is put into one."""
        if self._closed is not None:
            raise QueueClosed(*self._closed)
        if self.live >= self.capacity:
            self.statistics.refused += 1
            raise QueueFull(self._promise(self._timers.time()))

    def submit(self, request: Work, *, whole: bool) -> Ticket:
        """Admit a request or raise QueueFull or QueueClosed, at once. `whole`: its reader wants it in one piece."""
        self.check_room()
        now = self._timers.time()
        ticket = Ticket(next(self._ids), request, Mailbox(whole=whole), now, self.timeout_s)
        self._live[ticket.id] = self._pending[ticket.id] = ticket
        self.idle.clear()
        self._timeouts[ticket.id] = self._timers.call_at(ticket.deadline, self._expire, ticket)
        try:
            self._pump()
            self._announce(ticket)
        except Exception:
            # A request that can't even be sent must not keep its place.
            if not ticket.ended:
                self._end(ticket, TicketState.FAILED)
            raise
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """The client has left. Idempotent: an ended ticket stays as it is."""
        if not ticket.ended:
            self._backend.cancel(ticket.id)
            self._end(ticket, TicketState.CANCELLED)

    # --- what the worker says ---

    def worker_ready(self, credits: int) -> None:  # noqa: A002 - the field's term
        """A worker takes work on `credits` rows."""
        self.credits = credits
        self._pump()
        for ticket in self._pending.values():
            self._announce(ticket)

    def worker_lost(self, message: str) -> None:
        """The worker is gone, and all it knew with it: replay what no client has seen, end the rest."""
        self.credits = 0
        again: dict[int, Ticket] = {}
        for ticket in list(self._live.values()):
            ticket.survived_a_worker |= ticket.known_to_worker
            ticket.known_to_worker = False
            if ticket.state is TicketState.WAITING:
                continue
            if policy.may_replay(sent=ticket.sent, replays=ticket.replays):
                ticket.start_over()
                self.statistics.replayed += 1
                again[ticket.id] = ticket
            else:
                self._fail(ticket, Failed(ticket.id, FailureKind.WORKER_LOST, message))
        self.rows_used = 0
        self._pending = dict(sorted((self._pending | again).items()))

    def close(self, kind: FailureKind, message: str) -> None:
        """Take nothing more and end what waits; what runs may go on."""
        self._closed = kind, message
        for ticket in [t for t in self._live.values() if t.state is TicketState.WAITING]:
            self._backend.cancel(ticket.id)
            self._fail(ticket, Failed(ticket.id, kind, message))

    def abort(self, kind: FailureKind, message: str) -> None:
        """Close, and end what runs too."""
        self.close(kind, message)
        for ticket in list(self._live.values()):
            self._backend.cancel(ticket.id)
            self._fail(ticket, Failed(ticket.id, kind, message))

    def deliver(self, events: list[StepEvent]) -> None:
        """Route what one step produced; events of tickets that have ended are dropped."""
        now = self._timers.time()
        for event in events:
            ticket = self._live.get(event.ticket)
            if ticket is None:
                continue
            match event:
                case Started():
                    ticket.started = event
                case Text() | Reasoning() | ToolCall():
                    self._deliver_part(ticket, event, now)
                case Vector():
                    self.statistics.vectors += 1
                    ticket.mailbox.put(event)
                case Score():
                    self.statistics.scores += 1
                    ticket.mailbox.put(event)
                case Finished():
                    self._deliver_finished(ticket, event, now)
                case Failed():
                    self._fail(ticket, event)
                case _:
                    assert_never(event)

    # --- how it works ---

    def _promise(self, now: float) -> int:
        ages = [now - t.started_at for t in self._live.values() if t.started_at is not None]
        rate = policy.service_rate(self.statistics.mean_service_s, ages)
        self._last_promise = policy.promise(now, self._last_promise, rate, self.capacity)
        return policy.retry_after_s(now, self._last_promise)

    def _pump(self) -> None:
        """Give free rows to those whose turn it is."""
        now = self._timers.time()
        while self.rows_used < self.credits and (turn := self._next_turn()) is not None:
            *overtaken, ticket = itertools.islice(self._pending.values(), turn.position + 1)
            rows = min(ticket.rows_missing, self.credits - self.rows_used, turn.most_rows or self.credits)
            for other in overtaken:
                other.overtaken += rows
            self._class = ticket.batch_class
            self._grant(ticket, rows, now)

    def _next_turn(self) -> policy.Turn | None:
        line = itertools.islice(self._pending.values(), LOOK_AHEAD)
        facts = ((ticket.batch_class, ticket.overtaken) for ticket in line)
        return policy.next_turn(facts, self._class if self.rows_used else None, self.credits)

    def _announce(self, ticket: Ticket) -> None:
        """Let the worker prepare a request that has no row yet: a prompt it can't take is refused without waiting.

        Not one that a worker knew when it died: if it was the cause, it must not cost those before it another life.
        """
        if self.credits and not ticket.known_to_worker and not ticket.survived_a_worker:
            ticket.known_to_worker = True
            self._backend.submit(ticket.id, ticket.request, 0)

    def _grant(self, ticket: Ticket, rows: int, now: float) -> None:
        if ticket.state is TicketState.WAITING and not ticket.replays:
            self.statistics.queue_s.observe(now - ticket.submitted_at)
        self.rows_used += rows
        ticket.grant(rows, now)
        if not ticket.rows_missing:
            del self._pending[ticket.id]
        if ticket.known_to_worker:
            self._backend.grant(ticket.id, rows)
        else:
            ticket.known_to_worker = True
            self._backend.submit(ticket.id, ticket.request, rows)

    def _deliver_part(self, ticket: Ticket, event: Part, now: float) -> None:
        statistics = self.statistics
        statistics.completion_tokens += event.tokens
        last_text_at = ticket.last_text_at.get(event.index)
        if last_text_at is not None and event.tokens:
            statistics.inter_token_s.observe((now - last_text_at) / event.tokens, event.tokens)
        elif not ticket.last_text_at and not ticket.replays:
            statistics.first_token_s.observe(now - ticket.submitted_at)
        ticket.last_text_at[event.index] = now
        ticket.mailbox.put(event)
        if ticket.mailbox.overflowed:
            self._backend.cancel(ticket.id)
            message = "The client reads too slowly: the answer was given up."
            self._fail(ticket, Failed(ticket.id, FailureKind.SLOW_READER, message))

    def _deliver_finished(self, ticket: Ticket, event: Finished, now: float) -> None:
        self.statistics.prompt_tokens += event.prompt_tokens
        self.statistics.cached_tokens += event.cached_tokens
        self.statistics.cached_prompts += event.cached_tokens > 0
        self.statistics.drafted_tokens += event.drafted_tokens
        self.statistics.accepted_tokens += event.accepted_tokens
        self.statistics.encoded_media += event.encoded_media
        self.statistics.cached_media += event.cached_media
        ticket.mailbox.put(event)
        ticket.rows_done += 1
        self.rows_used -= 1
        if ticket.rows_done == ticket.request.rows:
            assert ticket.started_at is not None
            self.statistics.record_service(now - ticket.started_at)
            self._end(ticket, TicketState.SERVED)
        else:
            self._pump()

    def _expire(self, ticket: Ticket) -> None:
        self._backend.cancel(ticket.id)
        message = f"Request processing timed out after {ticket.timeout_s:g} seconds"
        self._fail(ticket, Failed(ticket.id, FailureKind.TIMEOUT, message))

    def _fail(self, ticket: Ticket, failed: Failed) -> None:
        ticket.mailbox.put(failed)
        self._end(ticket, ENDS.get(failed.kind, TicketState.FAILED))

    def _end(self, ticket: Ticket, state: TicketState) -> None:
        """The one place where a ticket gives everything back."""
        self.rows_used -= ticket.rows_held
        ticket.move(state)
        del self._live[ticket.id]
        if not self._live:
            self.idle.set()
        self._pending.pop(ticket.id, None)
        self._timeouts.pop(ticket.id).cancel()
        self.statistics.request_s.observe(self._timers.time() - ticket.submitted_at)
        name = state.value
        setattr(self.statistics, name, getattr(self.statistics, name) + 1)
        self._pump()
