"""A real worker process under a real supervisor, with a real queue before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from support.running.processes import lives

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import (
    Decoded,
    Event,
    FailureKind,
    KeptPrefix,
    Load,
    Loading,
    ModelFacts,
    NoAnswer,
    StepEvent,
    Tokens,
)
from mlx_server.workers.parent.handle import Starts
from mlx_server.workers.parent.supervisor import Patience, StartError, Supervisor

SCENARIO_S = 60.0
QUICK = Patience(first_backoff_s=0.01)


def script(**what: Any) -> str:
    """What the scripted backend shall do."""
    return json.dumps(what)


class Supervised:
    """`async with Supervised(...)`: a worker that is ready. Keeps what the supervisor tells; leaves no process."""

    def __init__(
        self,
        model_path: str = "scripted",
        model_type: str = "scripted",
        *,
        rows: int = 2,
        patience: Patience = QUICK,
        wait_ready: bool = True,
        cache_dir: str = "/dev/null/nowhere",
        starts: Starts | None = None,
        **load: Any,
    ) -> None:
        """`load` are more fields of the message that says what to load."""
        self.told: list[tuple[str, Any]] = []
        self.delivered: list[StepEvent] = []
        self._news = asyncio.Condition()
        self._wait_ready = wait_ready
        spec = Load(model_path, model_type, rows, 512, cache_dir, **load)
        self.worker = Supervisor(spec, self, patience, "error", starts)
        self.queue = Dispatcher(asyncio.get_running_loop(), queue_size=100, concurrency=rows, timeout_s=SCENARIO_S)
        self._slots = self.queue.add_slots(self.worker)
        self.running: asyncio.Task[None]
        self.pids: set[int] = set()

    async def __aenter__(self) -> Supervised:
        self.running = asyncio.ensure_future(self.worker.run())
        if self._wait_ready:
            await self.hears("ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.queue.abort(FailureKind.SHUTTING_DOWN, "the test is over")
        await self.worker.stop()
        with contextlib.suppress(StartError):
            await self.running
        assert self.worker.pid is None
        assert not [pid for pid in self.pids if lives(pid)]

    @property
    def idle(self) -> bool:
        return not self._slots.tickets

    def loading(self, loading: Loading) -> None:
        self._tell("loading", loading)

    def ready_with(self, facts: ModelFacts) -> None:
        self.queue.worker_ready(self._slots, facts.rows)
        self._tell("ready", facts)

    def deliver(self, events: list[StepEvent]) -> None:
        self.delivered += events
        self.queue.deliver(self._slots, events)
        self._tell("step", events)

    def answered(self, number: int, answer: Tokens | Decoded | KeptPrefix | NoAnswer) -> None:
        self._tell("answered", (number, answer))

    def lost(self, message: str) -> None:
        self.queue.worker_lost(self._slots, message)
        self._tell("lost", message)

    def given_up(self, message: str) -> None:
        self.queue.worker_lost(self._slots, message)
        self.queue.abort(FailureKind.UNAVAILABLE, message)
        self._tell("given up", message)

    def _tell(self, name: str, value: Any) -> None:
        if self.worker.pid is not None:
            self.pids.add(self.worker.pid)
        self.told.append((name, value))
        self._notifying = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    def all_told(self, name: str) -> list[Any]:
        """Everything of one kind, so far."""
        return [value for told, value in self.told if told == name]

    async def hears(self, name: str, times: int = 1) -> Any:
        """Wait until something was told for the n-th time since the start; returns it."""
        async with asyncio.timeout(SCENARIO_S), self._news:
            await self._news.wait_for(lambda: len(self.all_told(name)) >= times or self.running.done())
        return self.all_told(name)[times - 1]

    def submit(self, *prompts: str, whole: bool = True) -> Ticket:
        """Ask for the prompts' sequences."""
        return self.queue.submit(GenerationRequest(tuple(map(TextPrompt, prompts)), 1 << 30), whole=whole)

    async def answer(self, ticket: Ticket) -> list[Event]:
        """All that is still to come for a ticket, read as a client's answer reads it."""
        events: list[Event] = []
        async with asyncio.timeout(SCENARIO_S):
            while unread := await self.read(ticket):
                events += unread
        return events

    async def read(self, ticket: Ticket) -> list[Event]:
        """The next unread events; what is streamed counts as sent."""
        events = await ticket.mailbox.get()
        ticket.sent = ticket.sent or (bool(events) and not ticket.mailbox.closed)
        return events
