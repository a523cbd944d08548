"""Thousands of random operations on one queue and its workers; what must always hold is checked after each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from support.running.clock import FakeClock
from support.running.queues import read, request

from mlx_server.queue.account import ANYBODY, Account, KeyLimits, Priority
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.errors import QueueFull
from mlx_server.queue.pending import line_of
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.queue.worker_slots import WorkerSlots
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import Event, Failed, FailureKind, Finished, Text

OPERATIONS = 2000
KEYS = (("few", 2), ("many", None))
"""Keys by name, and how many rows each may hold."""


@dataclass
class Job:
    rows: int
    granted: int = 0
    finished: set[int] = field(default_factory=set)
    parked: list[int] = field(default_factory=list)

    @property
    def running(self) -> list[int]:
        return [index for index in range(self.granted) if index not in self.finished and index not in self.parked]


@dataclass
class CheckingWorker:
    """A worker that holds the queue to the protocol: nothing twice, nothing unknown, no row too many."""

    jobs: dict[int, Job] = field(default_factory=dict)
    granted: list[tuple[int, int]] = field(default_factory=list)
    """Tickets and rows, since somebody last looked."""
    failing: set[int] = field(default_factory=set)
    """Tickets it has given up and whose rows it may still be granted: the messages cross."""

    def submit(self, ticket: int, request: GenerationRequest, rows: int, request_id: str | None) -> None:
        assert ticket not in self.jobs
        self.jobs[ticket] = Job(request.rows)
        self.grant(ticket, rows)

    def grant(self, ticket: int, rows: int) -> None:
        if ticket in self.failing:
            return
        job = self.jobs[ticket]
        resumed, job.parked = job.parked[:rows], job.parked[rows:]
        job.granted += rows - len(resumed)
        self.granted += [(ticket, rows)] if rows and not resumed else []
        assert job.granted <= job.rows

    def park(self, ticket: int) -> None:
        if ticket not in self.failing:
            job = self.jobs[ticket]
            assert job.running, "it had no row"
            job.parked += job.running

    def cancel(self, ticket: int) -> None:
        self.jobs.pop(ticket, None)

    @property
    def rows_used(self) -> int:
        return sum(len(job.running) for job in self.jobs.values())


@dataclass
class Client:
    """Reads its ticket's mailbox now and then, as the server's answer does."""

    ticket: Ticket
    whole: bool
    unread: bool = False
    events: list[Event] = field(default_factory=list)

    def read(self) -> None:
        if self.ticket.mailbox.closed or (not self.whole and self.unread):
            self.events += read(self.ticket.mailbox)
            self.unread = False
            self.ticket.sent = not self.whole


class World:
    def __init__(self, seed: int, *, classes: bool, workers: int, keys: bool = False) -> None:
        self.random = random.Random(seed)
        self.classes = classes
        self.keys = keys
        self.accounts = [ANYBODY, *(Account(name, KeyLimits(rows=rows), configured=True) for name, rows in KEYS)]
        self.overtaken: dict[int, int] = {}
        """Rows that later requests got while a request had had none, by ticket."""
        self.clock = FakeClock()
        self.queue = Dispatcher(
            self.clock,
            queue_size=self.random.randint(0, 6),
            concurrency=self.random.randint(1, 4),
            timeout_s=20.0,
            limit_s=40.0,
        )
        self.workers: dict[WorkerSlots, CheckingWorker] = {}
        for _ in range(workers):
            self.add_worker()
        self.clients: dict[int, Client] = {}
        self.live: list[Client] = []
        """Those whose tickets had not ended when they were last looked at."""
        self.refused = 0

    def add_worker(self) -> None:
        worker = CheckingWorker()
        self.workers[self.queue.add_slots(worker)] = worker

    def any_worker(self) -> tuple[WorkerSlots, CheckingWorker]:
        return self.random.choice(list(self.workers.items()))

    def submit(self) -> None:
        whole = self.random.random() < 0.5
        work = request(self.random.choice((1, 1, 1, 2, 5)))
        if self.classes:
            work = request(work.rows, self.random.choice((None, None, "a", "b")))
        account = self.random.choice(self.accounts) if self.keys else ANYBODY
        priority = self.random.choice(list(Priority)) if self.keys else Priority.NORMAL
        counted = [one for one in self.live if priority is Priority.IDLE or one.ticket.priority is not Priority.IDLE]
        full = len(counted) >= self.queue.capacity
        try:
            ticket = self.queue.submit(work, whole=whole, account=account, priority=priority)
        except QueueFull:
            assert full
            self.refused += priority is not Priority.IDLE
        else:
            assert not full or account.configured
            self.clients[ticket.id] = client = Client(ticket, whole)
            self.live.append(client)

    def cancel(self) -> None:
        if self.clients:
            self.queue.cancel(self.random.choice(list(self.clients.values())).ticket)

    def expire(self) -> None:
        self.clock.advance(self.random.uniform(0, 8))

    def deliver(self) -> None:
        slots, worker = self.any_worker()
        events: list[Event] = [Text(self.random.randint(1, 10**6), 0, "of nobody", 1)]
        for number, job in list(worker.jobs.items()):
            if self.random.random() < 0.02:
                events.append(Failed(number, FailureKind.ENGINE, "no good"))
                del worker.jobs[number]
                worker.failing.add(number)
                continue
            for index in job.running:
                events.append(Text(number, index, "x", 1))
                self.clients[number].unread = True
                if self.random.random() < 0.3:
                    events.append(Finished(number, index, "stop", 1, 0, 1))
                    job.finished.add(index)
            for index in [index for index in job.parked if self.random.random() < 0.1]:
                # It ended while it was told to make way.
                events.append(Finished(number, index, "stop", 1, 0, 1))
                job.finished.add(index)
                job.parked.remove(index)
            if len(job.finished) == job.rows:
                del worker.jobs[number]
        self.queue.deliver(slots, events)
        worker.failing.clear()

    def stale(self) -> None:
        """Events that crossed with a cancel on the way: of a ticket that has ended, or is elsewhere by now."""
        slots, _ = self.any_worker()
        strange = [number for number, client in self.clients.items() if client.ticket.slots is not slots]
        if strange:
            number = self.random.choice(strange)
            events: list[Event] = [Text(number, 0, "late", 1), Finished(number, 0, "stop", 1, 0, 1)]
            self.queue.deliver(slots, [*events, Failed(number, FailureKind.ENGINE, "late")])

    def lose(self) -> None:
        slots, worker = self.any_worker()
        worker.jobs.clear()
        with self.vacated(slots):
            self.queue.worker_lost(slots, "it died")

    def replace(self) -> None:
        """A worker is taken away while it lives, and another one takes its place."""
        slots, worker = self.any_worker()
        del self.workers[slots]
        with self.vacated(slots):
            self.queue.remove_slots(slots, "it was taken away")
        assert not worker.jobs, "it was not told to stop what it did"
        self.add_worker()

    @contextmanager
    def vacated(self, slots: WorkerSlots) -> Iterator[None]:
        """What ran on the worker and was not seen starts over."""
        there = [client for client in self.clients.values() if client.ticket.slots is slots]
        yield
        assert (slots.credits, slots.rows_used, slots.tickets) == (0, 0, 0)
        for client in there:
            client.unread = client.unread and client.ticket.ended

    def ready(self) -> None:
        slots, _ = self.any_worker()
        if not slots.credits:
            self.queue.worker_ready(slots, self.random.randint(1, self.queue.concurrency))

    def read(self) -> None:
        for client in self.clients.values():
            if self.random.random() < 0.3:
                client.read()

    def check(self) -> None:
        assert all(client.ticket.mailbox.closed == client.ticket.ended for client in self.live)
        self.live = [client for client in self.live if not client.ticket.ended]
        queue, live = self.queue, [client.ticket for client in self.live]
        places = queue.queue_size + queue.concurrency * len(self.workers)
        idle = [ticket for ticket in live if ticket.priority is Priority.IDLE]
        urgent = len(live) - len(idle)
        assert queue.live == len(live)
        assert max(urgent, len(idle)) <= places + self.keys * sum(max(1, places // n) for n in (2, 3))
        assert not (urgent and any(ticket.rows_held for ticket in idle)), "somebody idle is in the way"
        for account in self.accounts:
            held = sum(ticket.rows_held for ticket in live if ticket.account is account)
            assert account.limits.rows is None or held <= account.limits.rows
        assert queue.waiting + queue.running == queue.live
        assert queue.idle.is_set() == (not live)
        assert self.clock.pending == len(live)
        now = self.clock.time()
        assert all(now < ticket.deadline <= ticket.submitted_at + 40.0 for ticket in live if ticket not in idle)
        assert queue.rows_used == sum(ticket.rows_held for ticket in live)
        for slots, worker in self.workers.items():
            self.check_slots(slots, worker, live)
        self.check_order(live)

    def check_slots(self, slots: WorkerSlots, worker: CheckingWorker, live: list[Ticket]) -> None:
        here = [ticket for ticket in live if ticket.slots is slots]
        assert worker.jobs.keys() == {ticket.id for ticket in here}, "a ticket is not where it is thought to be"
        assert slots.tickets == len(here)
        assert slots.rows_used == sum(ticket.rows_held for ticket in here) == worker.rows_used
        assert 0 <= slots.rows_used <= slots.credits
        classes = {ticket.batch_class for ticket in here if ticket.rows_held}
        assert len(classes) <= 1, "two classes run together"
        wanting = [
            ticket
            for ticket in live
            if ticket.rows_missing
            and (ticket.slots is slots or ticket.state is TicketState.WAITING)
            and (ticket.priority is not Priority.IDLE or all(one.priority is Priority.IDLE for one in live))
            and self.may_have_more(ticket, live)
        ]
        if wanting and slots.credits and classes <= {wanting[0].batch_class}:
            assert slots.rows_used == slots.credits, "rows lie idle while requests want them"

    def may_have_more(self, ticket: Ticket, live: list[Ticket]) -> bool:
        most = ticket.account.limits.rows
        return most is None or sum(one.rows_held for one in live if one.account is ticket.account) < most

    def check_order(self, live: list[Ticket]) -> None:
        """Nobody jumps the line of a key and priority, but over those of other classes, who let as many rows pass as
        there are."""
        waiting = [ticket for ticket in live if ticket.state is TicketState.WAITING]
        for worker in self.workers.values():
            for number, rows in worker.granted:
                served = self.clients[number].ticket
                for ticket in waiting:
                    if ticket.id < number and line_of(ticket) == line_of(served):
                        assert ticket.batch_class != served.batch_class, "somebody jumped the line"
                        self.overtaken[ticket.id] = self.overtaken.get(ticket.id, 0) + rows
            worker.granted.clear()
        assert all(rows <= self.queue.concurrency for rows in self.overtaken.values())

    def check_ends(self) -> None:
        """Every accepted ticket has come to exactly one end, and its client knows which."""
        assert all(client.ticket.mailbox.closed and client.ticket.ended for client in self.clients.values())
        ends = [client.ticket.state.value for client in self.clients.values()]
        statistics = self.queue.statistics
        for name in ("served", "failed", "invalid", "timed_out", "cancelled"):
            assert getattr(statistics, name) == ends.count(name)
        assert len(ends) == statistics.served + statistics.failed + statistics.timed_out + statistics.cancelled
        assert statistics.refused == self.refused
        for client in self.clients.values():
            client.read()
            failures = [event for event in client.events if isinstance(event, Failed)]
            finished = [event.index for event in client.events if isinstance(event, Finished)]
            assert len(set(finished)) == len(finished)
            match client.ticket.state:
                case TicketState.SERVED:
                    assert sorted(finished) == list(range(client.ticket.request.rows))
                    assert failures == []
                case TicketState.CANCELLED:
                    assert failures == []
                case _:
                    assert failures == client.events[-1:]
            assert read(client.ticket.mailbox) == []


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", ["one-class", "classes", "keys"])
@pytest.mark.parametrize("seed", range(4))
def test_dispatcher_keeps_its_promises_whatever_happens(seed: int, kind: str, workers: int) -> None:
    classes = kind == "classes"
    world = World(seed, classes=classes, workers=workers, keys=kind == "keys")
    operations = {
        world.submit: 30,
        world.deliver: 25,
        world.read: 10,
        world.cancel: 6,
        world.expire: 6,
        world.stale: 3,
        world.ready: 6,
        world.lose: 1,
        world.replace: 1,
    }
    for operation in world.random.choices(list(operations), list(operations.values()), k=OPERATIONS):
        operation()
        world.check()
    world.queue.abort(FailureKind.SHUTTING_DOWN, "good night")
    world.check()
    world.check_ends()
    ends = {client.ticket.state for client in world.clients.values()}
    assert len(ends) == 4, f"the test did not reach every end: {ends}"
    assert world.queue.statistics.replayed
    assert world.refused
    assert bool(world.overtaken) is (classes and world.queue.concurrency > 1)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_everybody_comes_to_an_end_while_others_keep_coming(seed: int, workers: int) -> None:
    """No starvation: with only the passing of turns, and a full house, each one is through after bounded steps."""
    world = World(seed, classes=True, workers=workers)
    for slots in world.workers:
        world.queue.worker_ready(slots, world.queue.concurrency)
    begun: dict[int, int] = {}
    for step in range(OPERATIONS):
        if world.queue.live < world.queue.capacity:
            world.submit()
        world.deliver()
        world.check()
        for client in world.live:
            age = step - begun.setdefault(client.ticket.id, step)
            assert age < 300 * workers, "somebody waits for ever"
