"""Thousands of random operations on one queue; what must always hold is checked after each."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from support.clock import FakeTimers
from support.queues import read, request

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.errors import QueueFull
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.generation import GenerationRequest
from mlx_server.schemas.messages import Event, Failed, FailureKind, Finished, Text

OPERATIONS = 3000


@dataclass
class Job:
    rows: int
    granted: int = 0
    finished: set[int] = field(default_factory=set)

    @property
    def running(self) -> list[int]:
        return [index for index in range(self.granted) if index not in self.finished]


@dataclass
class CheckingWorker:
    """A worker that holds the queue to the protocol: nothing twice, nothing unknown, no row too many."""

    jobs: dict[int, Job] = field(default_factory=dict)
    failing: set[int] = field(default_factory=set)
    """Tickets it has given up and whose rows it may still be granted: the messages cross."""

    def submit(self, ticket: int, request: GenerationRequest, rows: int) -> None:
        assert ticket not in self.jobs
        self.jobs[ticket] = Job(request.rows)
        self.grant(ticket, rows)

    def grant(self, ticket: int, rows: int) -> None:
        if ticket in self.failing:
            return
        job = self.jobs[ticket]
        job.granted += rows
        assert job.granted <= job.rows

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
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.timers = FakeTimers()
        self.worker = CheckingWorker()
        self.queue = Dispatcher(
            self.worker,
            self.timers,
            queue_size=self.random.randint(0, 6),
            concurrency=self.random.randint(1, 4),
            timeout_s=40.0,
        )
        self.clients: dict[int, Client] = {}
        self.refused = 0

    @property
    def live(self) -> list[Client]:
        return [client for client in self.clients.values() if not client.ticket.ended]

    # --- operations ---

    def submit(self) -> None:
        whole = self.random.random() < 0.5
        full = len(self.live) >= self.queue.capacity
        work = request(self.random.choice((1, 1, 1, 2, 5)))
        if full:
            with pytest.raises(QueueFull) as caught:
                self.queue.submit(work, whole=whole)
            assert caught.value.retry_after_s >= 1
            self.refused += 1
        else:
            ticket = self.queue.submit(work, whole=whole)
            self.clients[ticket.id] = Client(ticket, whole)

    def cancel(self) -> None:
        if self.clients:
            self.queue.cancel(self.random.choice(list(self.clients.values())).ticket)

    def expire(self) -> None:
        self.timers.advance(self.random.uniform(0, 8))

    def deliver(self) -> None:
        events: list[Event] = [Text(self.random.randint(1, 10**6), 0, "of nobody", 1)]
        for number, job in list(self.worker.jobs.items()):
            if self.random.random() < 0.02:
                events.append(Failed(number, FailureKind.ENGINE, "no good"))
                del self.worker.jobs[number]
                self.worker.failing.add(number)
                continue
            for index in job.running:
                events.append(Text(number, index, "x", 1))
                self.clients[number].unread = True
                if self.random.random() < 0.3:
                    events.append(Finished(number, index, "stop", 1, 0, 1))
                    job.finished.add(index)
            if len(job.finished) == job.rows:
                del self.worker.jobs[number]
        self.queue.deliver(events)
        self.worker.failing.clear()

    def stale(self) -> None:
        """Events that crossed with a cancel on the way."""
        ended = [number for number, client in self.clients.items() if client.ticket.ended]
        if ended:
            number = self.random.choice(ended)
            self.queue.deliver([Text(number, 0, "late", 1), Finished(number, 0, "stop", 1, 0, 1)])

    def lose(self) -> None:
        self.worker.jobs.clear()
        self.queue.worker_lost("it died")
        assert (self.queue.credits, self.queue.rows_used) == (0, 0)
        for client in self.clients.values():
            client.unread = client.unread and client.ticket.ended

    def ready(self) -> None:
        if not self.queue.credits:
            self.queue.worker_ready(self.random.randint(1, self.queue.concurrency))

    def read(self) -> None:
        for client in self.clients.values():
            if self.random.random() < 0.3:
                client.read()

    # --- what must hold ---

    def check(self) -> None:
        queue, live = self.queue, [client.ticket for client in self.live]
        assert queue.live == len(live) <= queue.queue_size + queue.concurrency
        assert queue.waiting + queue.running == queue.live
        assert queue.idle.is_set() == (not live)
        assert self.timers.pending == len(live)
        assert queue.rows_used == sum(ticket.rows_held for ticket in live) == self.worker.rows_used
        assert 0 <= queue.rows_used <= queue.credits
        wanting = [ticket for ticket in live if ticket.rows_missing]
        if wanting and queue.credits:
            assert queue.rows_used == queue.credits, "rows lie idle while requests want them"
        first_waiting = min((t.id for t in live if t.state is TicketState.WAITING), default=None)
        if first_waiting is not None:
            assert all(t.id < first_waiting for t in live if t.state is TicketState.RUNNING), "somebody jumped the line"
        assert all(client.ticket.mailbox.closed == client.ticket.ended for client in self.clients.values())

    def check_ends(self) -> None:
        """Every accepted ticket has come to exactly one end, and its client knows which."""
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


@pytest.mark.parametrize("seed", range(6))
def test_dispatcher_keeps_its_promises_whatever_happens(seed: int) -> None:
    world = World(seed)
    operations = {
        world.submit: 30,
        world.deliver: 25,
        world.read: 10,
        world.cancel: 6,
        world.expire: 6,
        world.stale: 3,
        world.ready: 6,
        world.lose: 1,
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
