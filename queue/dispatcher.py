"""The queue of one deployment: admits requests, gives them rows, routes events back to their readers."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from typing import assert_never

from mlx_server.queue import policy
from mlx_server.queue.account import ANYBODY, Account, Priority
from mlx_server.queue.beginnings import PER_TOKEN
from mlx_server.queue.clock import Clock, Handle
from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.queue.mailbox import Mailbox
from mlx_server.queue.reservations import Reservations, Returning
from mlx_server.queue.scheduler import Scheduler
from mlx_server.queue.statistics import Statistics
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.queue.worker_slots import Backend, WorkerSlots
from mlx_server.schemas.internal.messages import (
    Failed,
    FailureKind,
    Finished,
    Part,
    Picture,
    Prepared,
    Progress,
    Reasoning,
    Recording,
    Result,
    Score,
    Segment,
    Sound,
    Started,
    StepEvent,
    Text,
    ToolCall,
    Vector,
)
from mlx_server.schemas.internal.work import Work

ENDS = {
    FailureKind.TIMEOUT: TicketState.TIMED_OUT,
    FailureKind.INVALID: TicketState.INVALID,
    FailureKind.CANCELLED: TicketState.CANCELLED,
}
"""Failures that are counted by themselves."""

MEASURABLE = 128
"""Tokens of a prompt: with fewer, what else a first token takes hides how fast they are read."""

IDLE_AGAIN_S = 1
"""After so long an idle request that is refused may come again: who comes first then does not matter."""


class Dispatcher:
    """One queue before any number of workers, each with slots; who gets which rows is the scheduler's affair.

    What is bounded is the number of live tickets: `queue_size` may wait beside the `concurrency` that may run on each
    worker. While there is no worker they wait. Each ends that gets no token or result for `timeout_s`, or that takes
    `limit_s` in all. Idle ones take nobody else's place, hold `idle_rows` at most while others live, and wait without
    end. `statistics`: those of the queue that it replaces.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        queue_size: int,
        concurrency: int,
        timeout_s: float,
        limit_s: float | None = None,
        idle_rows: int = 0,
        statistics: Statistics | None = None,
    ) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self._live: dict[int, Ticket] = {}
        self._timeouts: dict[int, Handle] = {}
        self._last_promise = 0.0
        self._reservations = Reservations()
        self._closed: tuple[FailureKind, str] | None = None
        self.idle = asyncio.Event()
        """Set while no request lives."""
        self.idle.set()
        self.queue_size = queue_size
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.limit_s = limit_s
        self.statistics = statistics or Statistics()
        self._scheduler = Scheduler(clock, self.statistics, idle_rows)

    @property
    def closed(self) -> bool:
        """No request is taken any more."""
        return self._closed is not None

    @property
    def live(self) -> int:
        """Requests waiting and running."""
        return len(self._live)

    @property
    def urgent(self) -> int:
        """The same without idle ones."""
        return self._scheduler.urgent

    @property
    def tickets(self) -> Iterable[Ticket]:
        """Requests waiting and running, in the order in which they came."""
        return self._live.values()

    @property
    def credits(self) -> int:
        """Rows that all workers grant."""
        return self._scheduler.credits

    @property
    def rows_used(self) -> int:
        """Rows in use on all workers."""
        return self._scheduler.rows_used

    @property
    def may_run(self) -> int:
        """How many requests may run at a time; of a worker that isn't ready what it is meant to grant counts."""
        granted = [slots.credits or self.concurrency for slots in self._scheduler.all_slots] or [self.concurrency]
        return sum(min(self.concurrency, rows) for rows in granted)

    @property
    def capacity(self) -> int:
        """How many requests may live: those that may wait, and those that may run."""
        return self.queue_size + self.may_run

    @property
    def waiting(self) -> int:
        """Requests that have no row yet, or have made way."""
        return sum(1 for _ in self._scheduler.waiting)

    @property
    def running(self) -> int:
        """Requests that hold rows."""
        return self.live - self.waiting

    @property
    def oldest_wait_s(self) -> float:
        """The longest time that any request has waited, in seconds."""
        first = next((ticket for ticket in self._live.values() if ticket.state is TicketState.WAITING), None)
        return self._clock.time() - first.submitted_at if first else 0.0

    @property
    def line(self) -> Iterable[Ticket]:
        """Requests that have no row yet, the next one first."""
        return self._scheduler.waiting

    @property
    def service_rate(self) -> float:
        """Requests per second that the workers finish, as far as can be told."""
        now = self._clock.time()
        urgent = (ticket for ticket in self._live.values() if ticket.priority is not Priority.IDLE)
        ages = [now - ticket.started_at for ticket in urgent if ticket.started_at is not None]
        return policy.service_rate(self.statistics.mean_service_s, ages)

    def position(self, ticket: Ticket) -> int | None:
        """A request's position among those that have no row yet, 1 for the first; None if it has one."""
        return self._scheduler.position(ticket)

    def eta_s(self, position: int) -> float | None:
        """In how many seconds the request at this position should get a row; None while there is no worker, and until
        a first request has ended: nobody can say how long those that run will take."""
        known = self.credits and self.statistics.mean_service_s is not None
        return round(position / self.service_rate, 1) if known else None

    def check_capacity(
        self, account: Account = ANYBODY, priority: Priority = Priority.NORMAL, who: Returning | None = None
    ) -> None:
        """Raise QueueFull or QueueClosed if a request would be refused now: ask before work is put into one.

        With `who`, one that is refused and comes back when it was told to finds a place that newcomers leave free, of
        those where requests wait. An idle one may come again soon, without one: it puts nobody else off.
        """
        if self._closed is not None:
            raise QueueClosed(*self._closed)
        now = self._clock.time()
        kept = 0
        if priority is not Priority.IDLE and (who is None or not self._reservations.is_due(who, now)):
            kept = self._reservations.due(now, self.queue_size, self.statistics.mean_service_s or 0.0)
        if (self.live if priority is Priority.IDLE else self._scheduler.urgent) + kept < self.capacity:
            return
        if account.configured:
            owners = Counter(ticket.account.owner for ticket in self._live.values())
            if policy.has_fair_place(owners[account.owner], len(owners), self.capacity):
                return
        if priority is Priority.IDLE:
            raise QueueFull(IDLE_AGAIN_S)
        self.statistics.refused += 1
        raise QueueFull(self._come_back(now, who))

    def submit(
        self,
        request: Work,
        *,
        whole: bool,
        account: Account = ANYBODY,
        priority: Priority = Priority.NORMAL,
        request_id: str | None = None,
        who: Returning | None = None,
    ) -> Ticket:
        """Admit a request or raise QueueFull, QueueClosed or LimitReached, at once. `whole`: its reader wants it in one
        piece; `request_id` is for the log; `who`: see `check_capacity`."""
        self.check_capacity(account, priority, who)
        patient = priority is Priority.IDLE
        now = self._clock.time()
        account.admit(now)
        if who is not None:
            self._reservations.take(who)
        ticket = Ticket(
            next(self._ids),
            request,
            Mailbox(whole=whole),
            now,
            math.inf if patient else self.timeout_s,
            None if patient else self.limit_s,
            account=account,
            priority=priority,
            request_id=request_id,
        )
        self._live[ticket.id] = ticket
        self._scheduler.add(ticket)
        self.idle.clear()
        self._watch(ticket)
        try:
            self._scheduler.schedule(now)
            self._scheduler.announce(ticket)
        except Exception:
            # A request that can't even be sent must not keep its place.
            if not ticket.ended:
                self._end(ticket, TicketState.FAILED)
            raise
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """The client has left. Idempotent: an ended ticket stays as it is."""
        if not ticket.ended:
            self._stop(ticket)
            self._end(ticket, TicketState.CANCELLED)

    def give_up(self, ticket: Ticket, message: str) -> None:
        """Somebody else than its client wants its end: the client is told. Idempotent."""
        if not ticket.ended:
            self._stop(ticket)
            self._fail(ticket, Failed(ticket.id, FailureKind.CANCELLED, message))

    def add_slots(self, backend: Backend) -> WorkerSlots:
        """A worker that will take work once it is ready."""
        return self._scheduler.add_slots(backend)

    def remove_slots(self, slots: WorkerSlots, message: str) -> None:
        """Its worker gets no more work: what no client has seen starts over elsewhere or waits, the rest is lost."""
        self._scheduler.all_slots.remove(slots)
        self._vacate(slots, message, died=False)

    async def drain_slots(self, slots: WorkerSlots) -> None:
        """Give its worker nothing new, and wait until nothing runs there any more; what waits, waits for others."""
        slots.closing = True
        while slots.rows_used:
            await slots.empty.wait()

    def worker_ready(self, slots: WorkerSlots, credits: int, kept_tokens: int = 0) -> None:  # noqa: A002 - the field's term
        """A worker takes work on `credits` rows, and keeps so many tokens of prompts."""
        slots.credits = credits
        slots.known.limit = kept_tokens * PER_TOKEN
        self._scheduler.schedule(self._clock.time())
        self._scheduler.announce_all()

    def worker_lost(self, slots: WorkerSlots, message: str) -> None:
        """A worker is gone, and all it knew with it: replay what no client has seen, end the rest."""
        self._vacate(slots, message, died=True)

    def close(self, kind: FailureKind, message: str) -> None:
        """Take nothing more and end what waits; what runs may go on."""
        self._closed = kind, message
        for ticket in list(self._scheduler.waiting):
            self._stop(ticket)
            self._fail(ticket, Failed(ticket.id, kind, message))

    def abort(self, kind: FailureKind, message: str) -> None:
        """Close, and end what runs too."""
        self.close(kind, message)
        self.fail_all(kind, message)

    def fail_all(self, kind: FailureKind, message: str) -> None:
        """End all that lives, and go on taking requests."""
        self._fail_each(self._live.values(), kind, message)

    def fail_idle(self, kind: FailureKind, message: str) -> None:
        """The same with idle ones."""
        self._fail_each((one for one in self._live.values() if one.priority is Priority.IDLE), kind, message)

    def _fail_each(self, tickets: Iterable[Ticket], kind: FailureKind, message: str) -> None:
        for ticket in sorted(tickets, key=lambda ticket: ticket.state is not TicketState.WAITING):
            self._stop(ticket)
            self._fail(ticket, Failed(ticket.id, kind, message))

    def deliver(self, slots: WorkerSlots, events: list[StepEvent]) -> None:
        """Route what one step of a worker produced; events of tickets that aren't there any more are dropped."""
        now = self._clock.time()
        for event in events:
            ticket = self._live.get(event.ticket)
            if ticket is None or ticket.slots is not slots:
                continue
            match event:
                case Prepared():
                    ticket.prepared = event
                case Started():
                    ticket.started = event
                case Progress():
                    ticket.progress = event
                    if event.total is not None:
                        ticket.last_event_at = now
                case Text() | Reasoning() | ToolCall():
                    self._deliver_part(ticket, event, now)
                case Vector():
                    self.statistics.vectors += 1
                    self._deliver_result(ticket, event, now)
                case Score():
                    self.statistics.scores += 1
                    self._deliver_result(ticket, event, now)
                case Recording():
                    self.statistics.recording_s += event.duration_s
                    self._deliver_result(ticket, event, now)
                case Picture():
                    self.statistics.pictures += event.partial is None
                    self._deliver_result(ticket, event, now)
                case Segment() | Sound():
                    self._deliver_result(ticket, event, now)
                case Finished():
                    self._deliver_finished(ticket, event, now)
                case Failed():
                    self._fail(ticket, event)
                case _:
                    assert_never(event)

    def _come_back(self, now: float, who: Returning | None) -> int:
        """After how many seconds one that is refused is to come: who is too early, when it was told already."""
        if who is None:
            return self._promise(now)
        if (told := self._reservations.too_early(who, now)) is not None:
            return policy.retry_after_s(now, told)
        retry_after_s = self._promise(now)
        self._reservations.expect(who, self._last_promise, now)
        return retry_after_s

    def _promise(self, now: float) -> int:
        self._last_promise = policy.promise(now, self._last_promise, self.service_rate, self.capacity)
        return policy.retry_after_s(now, self._last_promise)

    def _vacate(self, slots: WorkerSlots, message: str, *, died: bool) -> None:
        slots.credits = 0
        slots.known.clear()
        again, lost = [], []
        for ticket in [ticket for ticket in self._live.values() if ticket.slots is slots]:
            ticket.survived_a_worker |= died
            if not died:
                slots.cancel(ticket)
            slots.release(ticket)
            if ticket.state is TicketState.WAITING:
                continue
            if policy.may_replay(sent=ticket.sent, replays=ticket.replays if died else 0):
                ticket.start_over(died=died)
                self.statistics.replayed += 1
                again.append(ticket)
            else:
                lost.append(ticket)
        self._scheduler.requeue(again)
        for ticket in lost:
            self._fail(ticket, Failed(ticket.id, FailureKind.WORKER_LOST, message))
        self._scheduler.schedule(self._clock.time())
        self._scheduler.announce_all()

    def _stop(self, ticket: Ticket) -> None:
        if ticket.slots is not None:
            ticket.slots.cancel(ticket)

    def _deliver_part(self, ticket: Ticket, event: Part, now: float) -> None:
        statistics = self.statistics
        statistics.completion_tokens += event.tokens
        last_text_at = ticket.last_text_at.get(event.index)
        if last_text_at is not None and event.tokens:
            gap_s = (now - last_text_at) / event.tokens
            statistics.inter_token_s.observe(gap_s, event.tokens)
            statistics.recent_gaps_s.observe(now, gap_s, event.tokens)
        elif not ticket.last_text_at and ticket.starts == 1 and ticket.priority is not Priority.IDLE:
            statistics.first_token_s.observe(now - ticket.submitted_at)
            statistics.recent_first_tokens_s.observe(now, now - ticket.submitted_at)
        if ticket.first_text_at is None:
            ticket.first_text_at = now
        ticket.delivered_tokens += event.tokens
        ticket.last_text_at[event.index] = ticket.last_event_at = now
        ticket.mailbox.put(event)
        if ticket.mailbox.overflowed:
            self._stop(ticket)
            message = "The client reads too slowly: the answer was given up."
            self._fail(ticket, Failed(ticket.id, FailureKind.SLOW_READER, message))

    def _deliver_result(self, ticket: Ticket, event: Result, now: float) -> None:
        ticket.last_event_at = now
        ticket.mailbox.put(event)

    def _deliver_finished(self, ticket: Ticket, event: Finished, now: float) -> None:
        self.statistics.prompt_tokens += event.prompt_tokens
        self.statistics.cached_tokens += event.cached_tokens
        self.statistics.cached_prompts += event.cached_tokens > 0
        self.statistics.recent_prompts.observe(now, (event.cached_tokens, event.prompt_tokens))
        self.statistics.drafted_tokens += event.drafted_tokens
        self.statistics.accepted_tokens += event.accepted_tokens
        self.statistics.encoded_media += event.encoded_media
        self.statistics.cached_media += event.cached_media
        ticket.prompt_tokens += event.prompt_tokens
        ticket.cached_tokens += event.cached_tokens
        ticket.completion_tokens += event.completion_tokens
        ticket.last_event_at = now
        ticket.mailbox.put(event)
        assert ticket.slots is not None
        self._record_prefill(ticket, event)
        ticket.slots.finish_row(ticket)
        if ticket.rows_done == ticket.request.rows:
            assert ticket.started_at is not None
            if ticket.priority is not Priority.IDLE:
                self.statistics.record_service(now - ticket.started_at)
            self._end(ticket, TicketState.SERVED)
        else:
            self._scheduler.schedule(now)

    def _record_prefill(self, ticket: Ticket, event: Finished) -> None:
        read = event.prompt_tokens - event.cached_tokens
        started, first = ticket.started_at, ticket.first_text_at
        if started is None or first is None or read < MEASURABLE or ticket.request.rows > 1:
            return
        if self._scheduler.chooses and ticket.beginnings:
            self.statistics.record_prefill(first - started, ticket.beginnings[-1].known * read / event.prompt_tokens)

    def _watch(self, ticket: Ticket) -> None:
        self._timeouts[ticket.id] = self._clock.call_at(ticket.deadline, self._expire, ticket)

    def _expire(self, ticket: Ticket) -> None:
        if self._clock.time() < ticket.deadline:  # a token has come meanwhile: looking now and then costs less
            self._watch(ticket)
            return
        self._stop(ticket)
        # One that has only waited may do so again.
        retry_after_s = None if ticket.starts or ticket.used_up else self._promise(self._clock.time())
        failed = Failed(ticket.id, FailureKind.TIMEOUT, ticket.overdue, retry_after_s=retry_after_s)
        self._fail(ticket, failed)

    def _fail(self, ticket: Ticket, failed: Failed) -> None:
        ticket.mailbox.put(failed)
        self._end(ticket, ENDS.get(failed.kind, TicketState.FAILED))

    def _end(self, ticket: Ticket, state: TicketState) -> None:
        """The one place where a ticket gives everything back."""
        now = self._clock.time()
        self._scheduler.remove(ticket)
        ticket.move(state)
        # One that never had a row was only made tokens of.
        ticket.account.charge(now, (ticket.tokens_read if ticket.starts else 0) + ticket.tokens_written)
        del self._live[ticket.id]
        if not self._live:
            self.idle.set()
        self._timeouts.pop(ticket.id).cancel()
        self.statistics.request_s.observe(now - ticket.submitted_at)
        self.statistics.ended(state)
        self._scheduler.schedule(now)
