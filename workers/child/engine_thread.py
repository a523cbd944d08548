"""The one thread that touches the model: it takes commands between steps and steps while there is work. What a step's
results still take without the model, such as files of pixels, another thread does meanwhile."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from mlx_server.schemas.internal.messages import Load, Loading, MlxMemory, ModelFacts
from mlx_server.workers.child.lease import Turns
from mlx_server.workers.child.stopwatch import Stopwatch
from mlx_server.workers.engine.jobs import completed
from mlx_server.workers.engine.sequence import Computed, Key, Produced, Sequence
from mlx_server.workers.errors import ModelLoadError
from mlx_server.workers.handlers.base import Handler

GATHER_SHARE = 0.1
LONGEST_GATHER_S = 0.05
"""An idle engine that gets work waits for more, for this share of a step's time and no longer than that: requests
that come nearly together are then prefilled together."""

RESTS_S = 1.0
"""How long an engine has nothing to do before it gives memory back."""

UNREAD_STEPS = 8
"""Steps the event loop may lag behind before the engine waits for it."""


class EngineThread:
    """Runs a handler on a thread of its own. The methods are for the event loop's thread.

    `on_step` is called on the loop with what a step produced and must be followed by `step_handled`;
    `on_crash` is called on the loop if the engine can't go on. `sleep` waits, in seconds, for requests that come nearly
    together.

    Where processes take turns it computes only when it is its turn, and keeps the turn from step to step until another
    process wants it.
    """

    def __init__(
        self,
        handler: Handler,
        on_step: Callable[[list[Produced]], None],
        on_crash: Callable[[BaseException], None],
        turns: Turns | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._handler = handler
        self._on_step = on_step
        self._on_crash = on_crash
        self._turns = turns
        self._sleep = sleep
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlx")
        self._completer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="results")
        self._completing: Future[None] | None = None
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._unread = threading.Semaphore(UNREAD_STEPS)
        self._step = Stopwatch()
        self._last_step_s = 0.0
        self._stepping: asyncio.Future[None] | None = None

    @property
    def step_s(self) -> float:
        """How long the engine has been inside its current step, in seconds; 0 when it is in none, or waits for its
        turn."""
        return self._step.seconds

    @property
    def memory(self) -> MlxMemory | None:
        """What MLX holds; None before the model is loaded."""
        return None if self._stepping is None else self._handler.memory()

    async def load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        """Load the model, then start stepping. Raises ModelLoadError."""

        facts = await self._loop.run_in_executor(self._executor, self._load, spec, report)
        self._stepping = self._loop.run_in_executor(self._executor, self._run)
        self._stepping.add_done_callback(self._ended)
        return facts

    def add(self, sequence: Sequence) -> None:
        """Have a sequence taken in before the next step."""
        self._commands.put(lambda: self._take_in(sequence))

    def remove(self, key: Key) -> None:
        """Have a sequence dropped before the next step."""
        self._commands.put(lambda: self._handler.engine.remove(key))

    def bind(self, limit_bytes: int | None) -> None:
        """Have the process hold no more than that from the next step on; None: what it wants."""
        self._commands.put(lambda: self._handler.bind(limit_bytes))

    def step_handled(self) -> None:
        """The loop has dealt with one step."""
        self._unread.release()

    async def stop(self) -> None:
        """End after the current step and wait until the model is released; a load is not waited for."""
        self._commands.put(None)
        self._unread.release()  # the thread may be waiting for a loop that has stopped reading
        if self._turns is not None:
            self._turns.stop()
        if self._stepping is not None:
            await asyncio.wait([self._stepping])

    def _load(self, spec: Load, report: Callable[[Loading], None]) -> ModelFacts:
        def report_and_share(loading: Loading) -> None:
            self._loop.call_soon_threadsafe(report, loading)
            turns = self._turns
            if turns is None:
                return
            if not loading.computes or turns.wanted:
                self._end_turn()
            if loading.computes and not turns.acquire():
                raise ModelLoadError("the worker was stopped while it loaded its model")

        facts = self._handler.load(spec, report_and_share)
        self._handler.bind(spec.memory_bytes)
        self._end_turn()
        return facts

    def _run(self) -> None:
        engine, turns = self._handler.engine, self._turns
        try:
            while self._obey() and (turns is None or turns.acquire()):
                began = self._step.since = time.monotonic()
                produced = engine.step()
                self._step.since = None
                self._last_step_s = time.monotonic() - began
                if turns is not None and turns.wanted:
                    self._end_turn()
                if produced:
                    self._hand_over(produced)
        finally:
            self._step.since = None
            self._handler.close()
            if turns is not None:
                turns.release()

    def _hand_over(self, produced: list[Produced]) -> None:
        if not self._unread.acquire(blocking=False):
            self._end_turn()
            self._unread.acquire()
        if any(isinstance(item, Computed) and item.later for item in produced) or not self._all_completed:
            self._completing = self._completer.submit(self._complete, produced)
        else:
            self._loop.call_soon_threadsafe(self._on_step, produced)

    @property
    def _all_completed(self) -> bool:
        """The loop has all steps so far, and in their order."""
        return self._completing is None or self._completing.done()

    def _complete(self, produced: list[Produced]) -> None:
        self._loop.call_soon_threadsafe(self._on_step, [completed(item) for item in produced])

    def _end_turn(self) -> None:
        if self._turns is not None and self._turns.held:
            with self._step:
                self._handler.settle()
            self._turns.release()

    def _obey(self) -> bool:
        """Carry out what has been asked, waiting while there is nothing to step; False means stop."""
        while not (self._commands.empty() and self._handler.engine.busy):
            if self._commands.empty():
                self._end_turn()
            command = self._next_command()
            if command is None:
                return False
            command()
        return True

    def _next_command(self) -> Callable[[], None] | None:
        """The next one, waiting for it. Memory that was freed goes back to the system once none has come for a while:
        giving it back takes a moment, which no request should wait for."""
        try:
            return self._commands.get(timeout=RESTS_S)
        except queue.Empty:
            self._handler.rest()
            return self._commands.get()

    def _take_in(self, sequence: Sequence) -> None:
        idle = not self._handler.engine.busy
        self._handler.engine.add(sequence)
        if idle and sequence.gathers:
            self._sleep(min(GATHER_SHARE * self._last_step_s, LONGEST_GATHER_S))

    def _ended(self, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._on_crash(error)
