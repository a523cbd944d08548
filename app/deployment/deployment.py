"""A served model: its settings, its queue, its facts, and the workers that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec.structs import replace

from mlx_server.app.config.settings import ModelSettings, ModelType, Settings
from mlx_server.app.deployment.load_spec import load_of
from mlx_server.app.deployment.loop_clock import LoopClock
from mlx_server.app.deployment.model_state import HAS_WORKERS, ModelState, move
from mlx_server.app.deployment.observer import Observer
from mlx_server.app.deployment.performance import Tuning
from mlx_server.app.deployment.query_queue import QueryQueue
from mlx_server.app.deployment.replica import Replica
from mlx_server.app.deployment.sampling_defaults import SamplingDefaults
from mlx_server.app.deployment.variants import Variants
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.schemas.internal.generation import GenerationRequest, Sampling, in_force
from mlx_server.schemas.internal.messages import FailureKind, Load, Loading, ModelFacts
from mlx_server.workers.parent.handle import Starts
from mlx_server.workers.parent.local import LocalStarts
from mlx_server.workers.parent.supervisor import WorkerState

SHUTTING_DOWN = "The server is shutting down and takes no new requests."
CUT_SHORT = "The server is shutting down, and ended this request before it was complete."

CANNOT_BE_SERVED = "The model can't be served"

Changed = Callable[["Deployment", ModelState], None]
"""Told of a deployment that has moved, and the state that it was in; also, without a move, while it loads."""

Place = Callable[[str, int, Callable[[], None]], Starts]
"""Makes what starts the workers of a replica, of a model by its name, that needs so many bytes; calls back where others
want its place."""


class StartFailed(Exception):  # noqa: N818 - named for the fact
    """Raised when no worker could be started; the message is one line."""


class Deployment:
    """One queue, and behind it, while the model is loaded, as many workers as the settings say.

    Requests wait in the queue while there are no workers, each until its own deadline. Times are UTC. Whoever calls
    `load` and `unload` sees to it that one ends before the other begins. `before`: whose place it
    takes, with its statistics.
    """

    def __init__(
        self,
        settings: ModelSettings,
        model_type: ModelType,
        server: Settings,
        observer: Observer | None = None,
        changed: Changed | None = None,
        tuning: Tuning | None = None,
        before: Deployment | None = None,
        place: Place | None = None,
    ) -> None:
        self.name = settings.public_name
        self.settings = settings
        self.type = model_type
        self.variants = Variants(settings)
        self.sampling = SamplingDefaults(settings)
        self.created = int(time.time())
        self.facts: ModelFacts | None = None
        self.fingerprint: str | None = None
        """Stays the same while the same seed gives the same answer."""
        self.cpu_dtype = settings.cpu_dtype
        """How its next workers hold weights on a CPU."""
        self.prefix_most: int | None = None
        """What was granted for its next workers' kept prompts, where they take what memory allows; None: no limit."""
        self.memory_bound: int | None = None
        """The most that each of its workers may hold, in bytes; None: what it wants."""
        self.replica_bytes = 0
        """What each of its workers needs of a cluster's node, and may hold there; 0: unknown."""
        self.state = ModelState.UNLOADED
        self.awaited = False
        """A load has been asked for, and has not come to its end."""
        self.loading_now: Loading | None = None
        """How far a load is."""
        self.error_message: str | None = None
        """Why it failed, until it is loaded."""
        self.loaded_at: datetime | None = None
        self.load_seconds: float | None = None
        self.last_used_at: datetime | None = None
        self.use_count = 0
        self.replicas: list[Replica] = []
        self.loaded_as: Load | None = None
        """What its workers were told."""
        self._restarts_before = 0
        self._canaries_before: Counter[str] = Counter()
        self._successor: Deployment | None = None
        if before is not None:
            before._successor = self
            self.use_count = before.use_count
            self.last_used_at = before.last_used_at
            self._restarts_before = before.restarts
            self._canaries_before = before.canaries
        self._ending = FailureKind.SHUTTING_DOWN, SHUTTING_DOWN
        self._failure = FailureKind.UNAVAILABLE, CANNOT_BE_SERVED
        self._tuning = tuning or Tuning()
        self.server = server
        """The server's settings, for its next load."""
        self._place = place or (lambda *_: LocalStarts())
        self._observer = observer
        self._changed = changed
        rows = settings.rows(model_type)
        self.queue: Dispatcher = Dispatcher(
            LoopClock(),
            queue_size=settings.queue_size,
            concurrency=rows,
            timeout_s=settings.queue_timeout_s,
            limit_s=settings.request_timeout_s,
            idle_rows=settings.idle_rows,
            statistics=before.queue.statistics if before else None,
        )
        self.queries = QueryQueue(
            limit=settings.queue_size + rows * settings.replicas, timeout_s=settings.queue_timeout_s
        )
        self._queues = self.queue, self.queries
        """Both end in the same way."""
        self._running: list[asyncio.Future[None]] = []
        self._settled = asyncio.Event()  # a load has come to its end

    @property
    def current(self) -> Deployment:
        """The model's current deployment: this one, until another takes its place."""
        return self if self._successor is None else self._successor.current

    @property
    def ready(self) -> bool:
        """A worker takes work, and so does the queue."""
        return self.state is ModelState.LOADED and not self.queue.closed

    @property
    def status(self) -> str:
        """In a word: `ready`, `stopping` once no work is taken, else the state."""
        if self.queue.closed and self.state is not ModelState.FAILED:
            return "stopping"
        return "ready" if self.state is ModelState.LOADED else self.public_state.value

    @property
    def public_state(self) -> ModelState:
        """Its state; a model that was asked for and waits for memory counts as loading."""
        waits = self.awaited and self.state in (ModelState.UNLOADED, ModelState.FAILED)
        return ModelState.LOADING if waits else self.state

    @property
    def worker_states(self) -> dict[str, int]:
        """How many workers are in which state, of those that any is in."""
        return dict(Counter(replica.state.value for replica in self.replicas))

    @property
    def restarts(self) -> int:
        """Times that a worker was started again."""
        return self._restarts_before + sum(replica.worker.restarts for replica in self.replicas)

    @property
    def steady(self) -> bool:
        """Whether no worker that may come back has died lately: one more death would not be one in a row."""
        return all(replica.worker.steady for replica in self.replicas if replica.state is not WorkerState.FAILED)

    @property
    def canaries(self) -> Counter[str]:
        """How many canaries of its workers came to which end."""
        return sum((replica.worker.canaries for replica in self.replicas), self._canaries_before)

    @property
    def pids(self) -> list[int]:
        """The worker processes."""
        return [pid for replica in self.replicas if (pid := replica.worker.pid) is not None]

    @property
    def busy(self) -> bool:
        """Whether requests or queries are in flight or waiting."""
        return bool(self.queue.live) or not self.queries.idle.is_set()

    @property
    def wanted(self) -> bool:
        """The same, idle requests aside."""
        return bool(self.queue.urgent) or not self.queries.idle.is_set()

    def memory_bytes(self) -> int:
        """What the workers occupy together, 0 without any. Takes milliseconds: not for each request."""
        return sum(replica.memory_bytes() for replica in self.replicas)

    def memory_by_purpose(self) -> Counter[str]:
        """What the workers' memory is for, in bytes."""
        weights = 0 if self.facts is None else self.facts.parameter_bytes
        found: Counter[str] = Counter()
        for replica in self.replicas:
            found.update(replica.memory_by_purpose(weights))
        return found

    def loads_as(self) -> Load:
        """The load message that its workers would get now."""
        spec = load_of(self.settings, self.type, self.server, self._tuning)
        return replace(spec, cpu_dtype=self.cpu_dtype, prefix_most=self.prefix_most, memory_bytes=self.memory_bound)

    def bind(self, limit_bytes: int | None) -> None:
        """Let all its workers together hold no more; None: what they want."""
        self.memory_bound = None if limit_bytes is None else limit_bytes // self.settings.replicas
        for replica in self.replicas:
            replica.bind(self.memory_bound)

    def retune(self) -> None:
        """The tuning has changed: use as many rows as it says; the rest waits for the next load."""
        for replica in self.replicas:
            replica.retune()

    def settle(self, request: GenerationRequest) -> GenerationRequest:
        """A request as it will be served: its variant, its sampling. Raises InvalidRequest."""
        return self.sampling.fill(self.variants.settle(request))

    def sampling_in_force(self, given: Sampling) -> Sampling | None:
        """The sampling for a request that asks for `given`; None before the model has been loaded."""
        return in_force(self.sampling.filled(given), self.facts.sampling) if self.facts is not None else None

    def used(self) -> None:
        """A request has named it."""
        self.use_count += 1
        self.last_used_at = datetime.now(UTC)

    async def load(self) -> None:
        """Start the workers, and wait until the first takes work. Raises StartFailed; the queue stays as it is."""
        started = time.monotonic()
        await self._end_workers()  # those that were given up
        self.facts = None
        self._settled.clear()
        self._move(ModelState.LOADING)
        self.loaded_as = self.loads_as()
        self.replicas = [self._new_replica(self.loaded_as) for _ in range(self.settings.replicas)]
        self._running = [asyncio.ensure_future(replica.run()) for replica in self.replicas]
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            await self._end_workers()
            self._move(ModelState.UNLOADING)
            self._move(ModelState.UNLOADED)
            raise
        if self.state is ModelState.FAILED:
            raise StartFailed(self.error_message or "")
        self.load_seconds = time.monotonic() - started

    async def unload(self, *, force: bool) -> None:
        """End the workers, after what runs, or at once with `force`. What waits for rows goes on waiting."""
        if self.state is ModelState.UNLOADED:
            return
        if self.state is ModelState.FAILED:
            await self._end_workers()
            self._move(ModelState.UNLOADED)
            return
        if self.state is not ModelState.UNLOADING:  # one that was broken off is gone on with
            self._move(ModelState.UNLOADING)
        if not force:
            await asyncio.gather(*(replica.drained() for replica in self.replicas))
        await self._end_workers()
        self._move(ModelState.UNLOADED)

    def fail(self, message: str, kind: FailureKind = FailureKind.UNAVAILABLE) -> None:
        """Mark the model as failed: remember why, and end all requests with that."""
        self.error_message = message
        self._move(ModelState.FAILED)
        self._failure = kind, f"{CANNOT_BE_SERVED}: {message}" if kind is FailureKind.UNAVAILABLE else message
        self.fail_late()

    def fail_late(self) -> None:
        """End requests that have come since it failed, with the same reason: they had chosen it before."""
        self.fail_all(*self._failure)

    def fail_all(self, kind: FailureKind, message: str) -> None:
        """End all requests, and go on taking others."""
        for queue in self._queues:
            queue.fail_all(kind, message)

    def fail_idle(self, message: str) -> None:
        """End all idle requests: they may be tried again."""
        self.queue.fail_idle(FailureKind.UNAVAILABLE, message)

    async def drain(self) -> None:
        """Take no more work, end waiting requests now and running ones after the drain time."""
        self._close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.server.drain_timeout_s):
                for queue in self._queues:
                    await queue.idle.wait()
        self.abort()

    def retire(self) -> None:
        """The model is not served any more: take no more work, and end what waits."""
        self._ending = FailureKind.UNAVAILABLE, f"Model {self.name!r} is not served any more."
        self._close()

    def abort(self) -> None:
        """Take no more work, and end all requests. Idempotent."""
        self._close()
        kind, message = self._ending
        self.fail_all(kind, CUT_SHORT if kind is FailureKind.SHUTTING_DOWN else message)

    async def stop(self) -> None:
        """End all requests and the worker processes. Idempotent; the last call."""
        self.abort()
        await self._end_workers()
        if self.state in HAS_WORKERS:
            if self.state is not ModelState.UNLOADING:
                self._move(ModelState.UNLOADING)
            self._move(ModelState.UNLOADED)

    def _close(self) -> None:
        for queue in self._queues:
            queue.close(*self._ending)

    async def _end_workers(self) -> None:
        """No process is left after this, even if whoever calls is cancelled."""
        replicas, self.replicas = self.replicas, []
        for replica in replicas:
            self._count_up(replica)
        running, self._running = self._running, []
        ending = asyncio.gather(*(replica.stop() for replica in replicas), *running)
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait([ending])
            raise

    def _new_replica(self, spec: Load) -> Replica:
        starts = self._place(self.name, self.replica_bytes, lambda: self._recalled(replica))
        patience, log_level = self.server.patience, self.server.log_level
        replica = Replica(spec, self, self.queue, self.queries, patience, log_level, starts)
        return replica

    def _recalled(self, replica: Replica) -> None:
        if replica in self.replicas:
            self._running.append(asyncio.ensure_future(self._replace(replica)))

    async def _replace(self, replica: Replica) -> None:
        """A replica has to give up its place: it goes once nothing runs there, and another waits for a place."""
        await replica.drained()
        if replica not in self.replicas or self.state is ModelState.UNLOADING:
            return
        assert self.loaded_as is not None
        another = self._new_replica(self.loaded_as)
        self.replicas[self.replicas.index(replica)] = another
        self._count_up(replica)
        await replica.stop()
        self.lost(replica)
        await another.run()

    def _count_up(self, replica: Replica) -> None:
        self._restarts_before += replica.worker.restarts
        self._canaries_before = self._canaries_before + replica.worker.canaries

    def _move(self, state: ModelState) -> None:
        before, self.state = self.state, move(self.state, state)
        if state is not ModelState.LOADING:
            self.loading_now = None
        if state is ModelState.LOADED:
            self.loaded_at = datetime.now(UTC)
            self.error_message = None
        elif state not in HAS_WORKERS:
            self.loaded_at = None
        if before is ModelState.LOADING:
            self._settled.set()
            self._show(lambda observer: observer.ended())
        self._notify(before)

    def _notify(self, before: ModelState) -> None:
        if self._changed is not None:
            self._changed(self, before)

    def _show(self, show: Callable[[Observer], None]) -> None:
        if self._observer is not None:
            with contextlib.suppress(OSError):  # a display that can't be written to is no reason to stop
                show(self._observer)

    def rows_of(self, granted: int) -> int:
        """How many of the rows that a worker grants are used in the mode that the server is in."""
        return self._tuning.rows(granted)

    def loading(self, replica: Replica, loading: Loading) -> None:
        """A replica's start goes on: the first that loads is shown, unless another takes work."""
        first = next((other for other in self.replicas if other.state is WorkerState.LOADING), None)
        if replica is first and not self._any_ready():
            self.loading_now = loading
            self._show(lambda observer: observer.loading(loading))
            self._notify(self.state)

    def ready_with(self, replica: Replica, facts: ModelFacts) -> None:
        """A replica takes work: the model is loaded with its first one."""
        self.facts = facts
        self.fingerprint = f"fp_{facts.fingerprint}"
        if self.state in (ModelState.LOADING, ModelState.RESTARTING):
            self._move(ModelState.LOADED)
            self._show(lambda observer: observer.ready(facts))

    def lost(self, replica: Replica) -> None:
        """A replica's worker is gone: with the last that took work, the model is being started again."""
        if self.state is ModelState.LOADED and not self._any_ready():
            self._move(ModelState.RESTARTING)

    def given_up(self, replica: Replica, message: str) -> None:
        """A replica's worker is gone for good: the others go on; with the last, the model can't be served."""
        if all(other.state is WorkerState.FAILED for other in self.replicas) and self.state in HAS_WORKERS:
            if self.state is not ModelState.UNLOADING:
                self.fail(message)
        elif self.state is ModelState.LOADED and not self._any_ready():
            self._move(ModelState.RESTARTING)

    def _any_ready(self) -> bool:
        return any(replica.state is WorkerState.READY for replica in self.replicas)
