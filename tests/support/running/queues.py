"""A queue with a fake worker and a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.running.clock import FakeClock

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.mailbox import Mailbox
from mlx_server.queue.ticket import Ticket
from mlx_server.queue.worker_slots import WorkerSlots
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Event, Failed, FailureKind, Finished, StepEvent, Text


def request(rows: int = 1, adapter: str | None = None) -> GenerationRequest:
    """A request for `rows` sequences with an adapter."""
    prompts = tuple(TextPrompt(f"prompt {index}") for index in range(rows))
    return GenerationRequest(prompts, max_tokens=8, adapter=adapter)


def read(mailbox: Mailbox) -> list[Event]:
    """What a reader gets at once; an error if it would have to wait."""
    reading = mailbox.get()
    try:
        reading.send(None)
    except StopIteration as got:
        return list(got.value)
    raise AssertionError("there was nothing to read")


def text_of(events: list[Event]) -> str:
    """All texts, joined."""
    return "".join(event.text for event in events if isinstance(event, Text))


def failures_of(events: list[Event]) -> list[FailureKind]:
    """The kinds of the failures among the events."""
    return [event.kind for event in events if isinstance(event, Failed)]


@dataclass
class RecordingWorker:
    """Remembers what it was asked, and answers nothing by itself."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def submit(self, ticket: int, request: GenerationRequest, rows: int, request_id: str | None) -> None:
        self.calls.append(("submit", ticket, rows))

    def grant(self, ticket: int, rows: int) -> None:
        self.calls.append(("grant", ticket, rows))

    def park(self, ticket: int) -> None:
        self.calls.append(("park", ticket))

    def cancel(self, ticket: int) -> None:
        self.calls.append(("cancel", ticket))

    def take(self) -> list[tuple[Any, ...]]:
        """What it was asked since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Harness:
    """A dispatcher with workers ready for `ready_rows` each (as many as the concurrency; 0: not ready yet)."""

    def __init__(
        self,
        *,
        queue_size: int = 10,
        concurrency: int = 1,
        ready_rows: int | None = None,
        timeout_s: float = 300.0,
        limit_s: float | None = None,
        workers: int = 1,
        kept_tokens: int = 0,
    ) -> None:
        self.kept_tokens = kept_tokens
        self.clock = FakeClock()
        self.queue = Dispatcher(
            self.clock, queue_size=queue_size, concurrency=concurrency, timeout_s=timeout_s, limit_s=limit_s
        )
        self.workers = [RecordingWorker() for _ in range(workers)]
        self.all_slots = [self.queue.add_slots(worker) for worker in self.workers]
        rows = concurrency if ready_rows is None else ready_rows
        for number in range(workers if rows else 0):
            self.ready(rows, number)

    @property
    def worker(self) -> RecordingWorker:
        """The first one."""
        return self.workers[0]

    def ready(self, rows: int, worker: int = 0) -> None:
        """A worker takes work."""
        self.queue.worker_ready(self.all_slots[worker], rows, self.kept_tokens)

    def lose(self, message: str, worker: int = 0) -> None:
        """A worker is gone."""
        self.queue.worker_lost(self.all_slots[worker], message)

    def deliver(self, events: list[StepEvent], worker: int = 0) -> None:
        """A worker's step produced this."""
        self.queue.deliver(self.all_slots[worker], events)

    def submit(self, rows: int = 1, adapter: str | None = None, *, whole: bool = False) -> Ticket:
        """Admit a request for `rows` sequences."""
        return self.queue.submit(request(rows, adapter), whole=whole)

    def where(self, *tickets: Ticket) -> list[int | None]:
        """Which worker has each ticket, prepared or running."""
        return [None if ticket.slots is None else self.all_slots.index(ticket.slots) for ticket in tickets]

    def say(self, ticket: Ticket, text: str = "x", index: int = 0, tokens: int = 1) -> None:
        """The worker produced text for a sequence."""
        self._deliver(ticket, [Text(ticket.id, index, text, tokens)])

    def finish(self, ticket: Ticket, *indexes: int) -> None:
        """The worker finished these sequences of a ticket, by default its first."""
        self._deliver(ticket, [Finished(ticket.id, index, "stop", 3, 0, 5) for index in indexes or (0,)])

    def fail(self, ticket: Ticket, kind: FailureKind = FailureKind.ENGINE) -> None:
        """The worker gave a ticket up."""
        self._deliver(ticket, [Failed(ticket.id, kind, "no good", None)])

    def _deliver(self, ticket: Ticket, events: list[StepEvent]) -> None:
        """By the worker that has the ticket, or by the first one."""
        self.queue.deliver(ticket.slots or self.all_slots[0], events)


class TimedWorker:
    """Serves each row for as long as `service_s()` says, on the fake clock."""

    def __init__(self, clock: FakeClock, service_s: Callable[[], float]) -> None:
        self._clock = clock
        self._service_s = service_s
        self.queue: Dispatcher
        self.slots: WorkerSlots

    def submit(self, ticket: int, request: GenerationRequest, rows: int, request_id: str | None) -> None:
        self.grant(ticket, rows)

    def grant(self, ticket: int, rows: int) -> None:
        for _ in range(rows):
            self._clock.call_at(self._clock.time() + self._service_s(), self._finish, ticket)

    def park(self, ticket: int) -> None:
        pass

    def cancel(self, ticket: int) -> None:
        pass

    def _finish(self, ticket: int) -> None:
        self.queue.deliver(self.slots, [Text(ticket, 0, "x", 1), Finished(ticket, 0, "stop", 1, 0, 1)])
