"""A model being served: its specification, its queue, its worker and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mlx_server.app.asking import Answer, Asking
from mlx_server.app.settings import Settings
from mlx_server.app.variants import Variants
from mlx_server.queue.dispatcher import Dispatcher, Handle
from mlx_server.schemas.messages import FailureKind, Load, Loading, ModelFacts, NoAnswer, StepEvent
from mlx_server.workers.supervisor import StartError, Supervisor, WorkerState

log = logging.getLogger(__name__)

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
    """Joins a queue and a worker: the queue's work goes to the worker, the worker's events to the queue."""

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
            max_gap_s=settings.max_gap_s,
            prompt_cache_dir=absolute(settings.prompt_cache_dir),
            prompt_cache_bytes=settings.prompt_cache_bytes,
            kv_bytes=settings.kv_bytes,
            warm_prompt=settings.warm_prompt,
            kv_bits=settings.kv_bits,
        )
        self.worker = Supervisor(spec, self, settings.patience, log_level=settings.log_level)
        self.queue = Dispatcher(
            self.worker,
            LoopTimers(),
            queue_size=settings.queue_size,
            concurrency=settings.max_concurrency,
            timeout_s=settings.queue_timeout_s,
        )
        limit = settings.queue_size + settings.max_concurrency
        self.asking = Asking(self.worker, limit=limit, timeout_s=settings.queue_timeout_s)
        self._task: asyncio.Task[None] | None = None
        self.start_error: asyncio.Event = asyncio.Event()
        """Set when the first worker could not start: `start_error_message` says why."""
        self.start_error_message = ""

    @property
    def ready(self) -> bool:
        """A worker takes work, and so does the queue."""
        return self.worker.state is WorkerState.READY and not self.queue.closed

    @property
    def status(self) -> str:
        """The worker's state, or `stopping` once no work is taken."""
        failed = self.worker.state is WorkerState.FAILED
        return "stopping" if self.queue.closed and not failed else self.worker.state.value

    # --- life ---

    def start(self) -> None:
        """Start the worker; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

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
        """End everything that lives and the worker process. Idempotent."""
        self.abort()
        if self._task is not None:
            await self.worker.stop()
            await self._task

    async def _run(self) -> None:
        try:
            await self.worker.run()
        except StartError as error:
            self.start_error_message = str(error)
            self.given_up(str(error))
            self.start_error.set()
        except Exception as error:
            log.exception("the worker's supervisor failed")
            self.worker.state = WorkerState.FAILED
            self.given_up(f"{type(error).__name__}: {error}")

    # --- what the worker says ---

    def loading(self, loading: Loading) -> None:
        """Part of the worker's listener."""
        if self._observer is not None:
            with contextlib.suppress(OSError):  # a display that can't be written to is no reason to stop
                self._observer.loading(loading)

    def ready_with(self, facts: ModelFacts) -> None:
        """Part of the worker's listener."""
        self.facts = facts
        self.fingerprint = f"fp_{facts.fingerprint}"
        self.queue.worker_ready(facts.rows)
        self.asking.worker_ready()
        if self._observer is not None:
            with contextlib.suppress(OSError):
                self._observer.ready(facts)

    def deliver(self, events: list[StepEvent]) -> None:
        """Part of the worker's listener."""
        self.queue.deliver(events)

    def answered(self, number: int, answer: Answer | NoAnswer) -> None:
        """Part of the worker's listener."""
        self.asking.answered(number, answer)

    def lost(self, message: str) -> None:
        """Part of the worker's listener."""
        self.queue.worker_lost(message)
        self.asking.worker_lost(message)

    def given_up(self, message: str) -> None:
        """Part of the worker's listener."""
        self.queue.worker_lost(message)
        message = f"The model can't be served: {message}"
        self.queue.abort(FailureKind.UNAVAILABLE, message)
        self.asking.abort(FailureKind.UNAVAILABLE, message)
