"""One worker of a deployment, and its place in the deployment's queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from mlx_server.app.deployment.process_memory import by_purpose, occupied_bytes, resident_bytes
from mlx_server.app.deployment.query_queue import Answer, QueryQueue
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.worker_slots import WorkerSlots
from mlx_server.schemas.internal.messages import Load, Loading, ModelFacts, NoAnswer, StepEvent
from mlx_server.workers.parent.handle import Starts
from mlx_server.workers.parent.supervisor import Patience, StartError, Supervisor, WorkerState

log = logging.getLogger(__name__)


class Owner(Protocol):
    """The deployment, as its replicas report to it."""

    def rows_of(self, granted: int) -> int:
        """How many of the rows that a worker grants are used."""

    def loading(self, replica: Replica, loading: Loading) -> None:
        """A worker's start goes on."""

    def ready_with(self, replica: Replica, facts: ModelFacts) -> None:
        """A worker takes work."""

    def lost(self, replica: Replica) -> None:
        """A worker is gone, and will be started again."""

    def given_up(self, replica: Replica, message: str) -> None:
        """A worker is gone for good, and out of the queue."""


class Replica:
    """Joins a worker and its slots: the queue's work goes to the worker, the worker's events to the queue."""

    def __init__(
        self,
        spec: Load,
        owner: Owner,
        queue: Dispatcher,
        queries: QueryQueue,
        patience: Patience,
        log_level: str,
        starts: Starts | None = None,
    ) -> None:
        self._owner = owner
        self._queue = queue
        self._queries = queries
        self.worker = Supervisor(spec, self, patience, log_level, starts)
        self._slots: WorkerSlots | None = queue.add_slots(self.worker)
        self._granted = self._kept_tokens = 0

    @property
    def state(self) -> WorkerState:
        """What the worker is doing."""
        return self.worker.state

    @property
    def idle(self) -> bool:
        """No request is with its worker, and no question."""
        return (self._slots is None or not self._slots.tickets) and self._queries.idle.is_set()

    def memory_bytes(self) -> int:
        """Memory of its process and of those that it started; 0 while there is none."""
        pid = self.worker.pid
        return 0 if pid is None else occupied_bytes(resident_bytes(pid), self.worker.memory)

    def memory_by_purpose(self, weights: int) -> Mapping[str, int]:
        """What its worker's memory is for, in bytes, of which so many are weights; nothing where it has no model."""
        pid, mlx = self.worker.pid, self.worker.memory
        return {} if pid is None or mlx is None else by_purpose(pid, mlx, weights)

    async def run(self) -> None:
        """Keep the worker alive until it is stopped or given up; its owner is told of the latter."""
        try:
            await self.worker.run()
        except StartError as error:
            log.error("a worker could not be started: %s", error)
            self.given_up(str(error))
        except Exception as error:
            log.exception("the worker's supervisor failed")
            self.worker.state = WorkerState.FAILED
            self.given_up(f"{type(error).__name__}: {error}")

    def retune(self) -> None:
        """Use as many rows as its owner wants now; surplus running requests go on to their ends."""
        if self._slots is not None and self._slots.credits:
            self._queue.worker_ready(self._slots, self._owner.rows_of(self._granted), self._kept_tokens)

    def bind(self, limit_bytes: int | None) -> None:
        """Let its worker hold no more; None: what it wants."""
        self.worker.bind(limit_bytes)

    async def drained(self) -> None:
        """Take no new work; returns once no request runs."""
        if self._slots is not None:
            await self._queue.drain_slots(self._slots)

    async def stop(self, message: str = "The model was unloaded.") -> None:
        """Leave the queue and end the worker process; `run` returns then. What no client has seen starts over."""
        self._leave(message)
        self._queries.worker_left(self.worker)
        await self.worker.stop()

    def loading(self, loading: Loading) -> None:
        """The worker's start goes on; the deployment shows it."""
        self._owner.loading(self, loading)

    def ready_with(self, facts: ModelFacts) -> None:
        """The worker takes work: the queue may grant its rows. One that has left the queue is not heard."""
        if self._slots is not None:
            self._owner.ready_with(self, facts)
            self._granted, self._kept_tokens = facts.rows, facts.kept_tokens
            self._queue.worker_ready(self._slots, self._owner.rows_of(facts.rows), facts.kept_tokens)
            self._queries.worker_ready(self.worker)

    def deliver(self, events: list[StepEvent]) -> None:
        """One step's events, to the queue."""
        if self._slots is not None:
            self._queue.deliver(self._slots, events)

    def answered(self, number: int, answer: Answer | NoAnswer) -> None:
        """The answer to a query."""
        self._queries.answered(number, answer)

    def lost(self, message: str) -> None:
        """The worker is gone and will be started again; what no client has seen starts over on another."""
        self._vacate(message)
        self._owner.lost(self)

    def given_up(self, message: str) -> None:
        """The worker is gone for good: its slots leave the queue."""
        self._vacate(message)
        self._leave(message)
        self._owner.given_up(self, message)

    def _vacate(self, message: str) -> None:
        if self._slots is not None:
            self._queue.worker_lost(self._slots, message)
        self._queries.worker_lost(self.worker, message)

    def _leave(self, message: str) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            self._queue.remove_slots(slots, message)
