"""A model being served: its specification, its queue, its workers and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mlx_server.app.asking import Asking
from mlx_server.app.replica import Replica
from mlx_server.app.settings import Settings
from mlx_server.app.variants import Variants
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.timers import Handle
from mlx_server.schemas.messages import FailureKind, Load, Loading, ModelFacts
from mlx_server.workers.supervisor import WorkerState

BEST_FIRST = (
    WorkerState.READY,
    WorkerState.LOADING,
    WorkerState.STARTING,
    WorkerState.RESTARTING,
    WorkerState.STOPPED,
    WorkerState.FAILED,
)
"""What several workers do together is what the first of them in this order does."""

SHUTTING_DOWN = "The server is shutting down and takes no new requests."


def absolute(path: Path | None) -> str | None:
    """A path as a message carries it."""
    return None if path is None else str(path.absolute())


class Observer(Protocol):
    """Who shows a person how the start goes."""

    def loading(self, loading: Loading) -> None:
        """The worker's start goes on."""

    def ready(self, facts: ModelFacts) -> None:
        """The model answers."""


class LoopTimers:
    """The running event loop's clock."""

    def time(self) -> float:
        """Monotonic seconds."""
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Call back at that time."""
        return asyncio.get_running_loop().call_at(when, callback, *args)


class Deployment:
    """One queue, and as many workers behind it as the settings say."""

    def __init__(self, settings: Settings, observer: Observer | None = None) -> None:
        self.name = settings.name
        self.variants = Variants(settings)
        self.created = int(time.time())
        self.facts: ModelFacts | None = None
        self.fingerprint: str | None = None
        """Stays the same while the same seed gives the same answer."""
        self._observer = observer
        self._drain_timeout_s = settings.drain_timeout_s
        spec = Load(
            model_path=settings.model_path,
            model_type=settings.model_type,
            rows=settings.max_concurrency,
            prefill_step_size=settings.prefill_step_size,
            cache_dir=str(settings.cache_dir),
            adapter_path=absolute(settings.adapter_path),
            adapter_dir=absolute(settings.adapter_dir),
            draft_model=settings.draft_model,
            chat_template=settings.chat_template,
            chat_template_args=settings.chat_template_args,
            use_default_chat_template=settings.use_default_chat_template,
            media_limits=settings.media_limits,
            feature_cache_bytes=settings.feature_cache_bytes,
            prefix_cache_bytes=settings.prefix_cache_bytes,
            batch_tokens=settings.batch_tokens,
            lease=settings.lease,
        )
        self.queue = Dispatcher(
            LoopTimers(),
            queue_size=settings.queue_size,
            concurrency=settings.max_concurrency,
            timeout_s=settings.queue_timeout_s,
        )
        limit = settings.queue_size + settings.max_concurrency * settings.replicas
        self.asking = Asking(limit=limit, timeout_s=settings.queue_timeout_s)
        self.replicas = [
            Replica(spec, self, self.queue, self.asking, settings.patience, settings.log_level)
            for _ in range(settings.replicas)
        ]
        self._running: asyncio.Future[list[None]] | None = None
        self.start_error: asyncio.Event = asyncio.Event()
        """Set when no worker could start: `start_error_message` says why."""
        self.start_error_message = ""

    @property
    def state(self) -> WorkerState:
        """What the workers do, seen as one."""
        return min((replica.state for replica in self.replicas), key=BEST_FIRST.index)

    @property
    def worker_states(self) -> dict[str, int]:
        """How many workers are in which state, of those that any is in."""
        return dict(Counter(replica.state.value for replica in self.replicas))

    @property
    def restarts(self) -> int:
        """Times that a worker was started again."""
        return sum(replica.worker.restarts for replica in self.replicas)

    @property
    def pids(self) -> list[int]:
        """The worker processes that live."""
        return [replica.worker.pid for replica in self.replicas if replica.worker.pid is not None]

    def memory_bytes(self) -> int:
        """What the workers occupy together. Takes milliseconds: not for each request."""
        return sum(replica.memory_bytes() for replica in self.replicas)

    @property
    def ready(self) -> bool:
        """A worker takes work, and so does the queue."""
        return self.state is WorkerState.READY and not self.queue.closed

    @property
    def status(self) -> str:
        """The workers' state, or `stopping` once no work is taken."""
        failed = self.state is WorkerState.FAILED
        return "stopping" if self.queue.closed and not failed else self.state.value

    # --- life ---

    def start(self) -> None:
        """Start the workers; returns at once."""
        self._running = asyncio.gather(*(replica.run() for replica in self.replicas))

    async def drain(self) -> None:
        """Take no more work, end what waits, give what runs its drain time, then end that too."""
        self.queue.close(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)
        self.asking.close(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout_s):
                await self.queue.idle.wait()
                await self.asking.idle.wait()
        self.abort()

    def abort(self) -> None:
        """Take no more work, and end what lives. Idempotent."""
        self.queue.abort(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)
        self.asking.abort(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)

    async def stop(self) -> None:
        """End everything that lives and the worker processes. Idempotent."""
        self.abort()
        if self._running is not None:
            await asyncio.gather(*(replica.stop(SHUTTING_DOWN) for replica in self.replicas))
            await self._running

    # --- what the replicas say ---

    def loading(self, replica: Replica, loading: Loading) -> None:
        """Part of the replicas' owner: the first that loads is shown, unless another takes work."""
        if self._observer is not None and self._shown() is replica:
            with contextlib.suppress(OSError):  # a display that can't be written to is no reason to stop
                self._observer.loading(loading)

    def ready_with(self, replica: Replica, facts: ModelFacts) -> None:
        """Part of the replicas' owner."""
        self.facts = facts
        self.fingerprint = f"fp_{facts.fingerprint}"
        others_ready = any(other.state is WorkerState.READY for other in self.replicas if other is not replica)
        if self._observer is not None and not others_ready:
            with contextlib.suppress(OSError):
                self._observer.ready(facts)

    def given_up(self, replica: Replica, message: str) -> None:
        """Part of the replicas' owner: the others go on; with the last, the model can't be served."""
        if self.state is not WorkerState.FAILED:
            return
        reason = f"The model can't be served: {message}"
        self.queue.abort(FailureKind.UNAVAILABLE, reason)
        self.asking.abort(FailureKind.UNAVAILABLE, reason)
        if self.facts is None:
            self.start_error_message = message
            self.start_error.set()

    def _shown(self) -> Replica | None:
        first = min(self.replicas, key=lambda replica: BEST_FIRST.index(replica.state))
        return first if first.state is WorkerState.LOADING else None
