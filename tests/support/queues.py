"""A queue with a fake worker and a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.clock import FakeTimers

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.mailbox import Mailbox
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.generation import Draft, GenerationRequest, TextPrompt
from mlx_server.schemas.messages import Event, Failed, FailureKind, Finished, Text


def request(rows: int = 1, adapter: str | None = None, *, alone: bool = False) -> GenerationRequest:
    """A request for `rows` sequences with an adapter; `alone`: they run one at a time, with a draft model."""
    prompts = tuple(TextPrompt(f"prompt {index}") for index in range(rows))
    return GenerationRequest(prompts, max_tokens=8, adapter=adapter, draft=Draft(None, 3) if alone else None)


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

    def submit(self, ticket: int, request: GenerationRequest, rows: int) -> None:
        self.calls.append(("submit", ticket, rows))

    def grant(self, ticket: int, rows: int) -> None:
        self.calls.append(("grant", ticket, rows))

    def cancel(self, ticket: int) -> None:
        self.calls.append(("cancel", ticket))

    def take(self) -> list[tuple[Any, ...]]:
        """What it was asked since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Harness:
    """A dispatcher whose worker is ready for `ready_rows` (as many as the concurrency; 0: not ready yet)."""

    def __init__(
        self, *, queue_size: int = 10, concurrency: int = 1, ready_rows: int | None = None, timeout_s: float = 300.0
    ) -> None:
        self.timers = FakeTimers()
        self.worker = RecordingWorker()
        self.queue = Dispatcher(
            self.worker, self.timers, queue_size=queue_size, concurrency=concurrency, timeout_s=timeout_s
        )
        rows = concurrency if ready_rows is None else ready_rows
        if rows:
            self.queue.worker_ready(rows)

    def submit(self, rows: int = 1, adapter: str | None = None, *, alone: bool = False, whole: bool = False) -> Ticket:
        """Admit a request for `rows` sequences."""
        return self.queue.submit(request(rows, adapter, alone=alone), whole=whole)

    def say(self, ticket: Ticket, text: str = "x", index: int = 0, tokens: int = 1) -> None:
        """The worker produced text for a sequence."""
        self.queue.deliver([Text(ticket.id, index, text, tokens)])

    def finish(self, ticket: Ticket, *indexes: int) -> None:
        """The worker finished these sequences of a ticket, by default its first."""
        self.queue.deliver([Finished(ticket.id, index, "stop", 3, 0, 5) for index in indexes or (0,)])

    def fail(self, ticket: Ticket, kind: FailureKind = FailureKind.ENGINE) -> None:
        """The worker gave a ticket up."""
        self.queue.deliver([Failed(ticket.id, kind, "no good", None)])


class TimedWorker:
    """Serves each row for as long as `service_s()` says, on the fake clock."""

    def __init__(self, timers: FakeTimers, service_s: Callable[[], float]) -> None:
        self._timers = timers
        self._service_s = service_s
        self.queue: Dispatcher

    def submit(self, ticket: int, request: GenerationRequest, rows: int) -> None:
        self.grant(ticket, rows)

    def grant(self, ticket: int, rows: int) -> None:
        for _ in range(rows):
            self._timers.call_at(self._timers.time() + self._service_s(), self._finish, ticket)

    def cancel(self, ticket: int) -> None:
        pass

    def _finish(self, ticket: int) -> None:
        self.queue.deliver([Text(ticket, 0, "x", 1), Finished(ticket, 0, "stop", 1, 0, 1)])
