"""The parent side of a worker process: starts it, watches it, starts it again, ends it.

A worker is something that will die. Death is noticed by the end of its socket, silence by missing heartbeats, a hung
engine by the length of its current step.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, assert_never

from msgspec.structs import replace

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.messages import (
    Answered,
    Ask,
    Bound,
    CanaryEnded,
    Cancel,
    Decoded,
    FromWorker,
    Grant,
    Heartbeat,
    KeptPrefix,
    Load,
    LoadFailed,
    Loading,
    MlxMemory,
    ModelFacts,
    NoAnswer,
    Park,
    Question,
    Ready,
    Step,
    StepEvent,
    Stop,
    Submit,
    Tokens,
    ToWorker,
    Withdraw,
)
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.channel import Channel
from mlx_server.workers.errors import one_line
from mlx_server.workers.parent.canary import WRITING, Canary
from mlx_server.workers.parent.handle import NoPlace, StartRefused, Starts, WorkerHandle
from mlx_server.workers.parent.local import LocalStarts
from mlx_server.workers.parent.starts import Wanted

log = logging.getLogger(__name__)

OVERSLEPT_S = 2.0
"""A check that comes later than this was not late by itself: the machine slept, or this process was stopped."""


MOST_DOUBLINGS = 64
"""Of a wait, which has long been as long as it may be."""


class StartError(Exception):
    """Raised when a worker that was never ready is not started again; the message is one line."""


class WorkerState(Enum):
    """What the worker is doing."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds, and how often to try."""

    heartbeat_s: float = 30.0
    step_s: float = 300.0
    stop_s: float = 10.0
    exit_s: float = 1.0
    check_s: float = 0.25
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    deaths_in_a_row: int = 5
    canary_s: float = 60.0
    healthy_after_s: float = 60.0
    healthy_starts: float = 3.0


def backoff_s(deaths: int, patience: Patience) -> float | None:
    """How long to wait after so many deaths in a row before the next start: not at all after one; None: give up."""
    return None if deaths >= patience.deaths_in_a_row else wait_s(deaths, patience)


def wait_s(failures: int, patience: Patience) -> float:
    """How long to wait after so many failures: twice as long after each, to a limit."""
    if failures < 2:
        return 0.0
    return min(patience.longest_backoff_s, patience.first_backoff_s * 2.0 ** min(failures - 2, MOST_DOUBLINGS))


def was_healthy(served_s: float, start_s: float, patience: Patience) -> bool:
    """Whether a worker took work for so long that its death has nothing to do with the one before: a while, or a few
    times as long as its start took."""
    return served_s > min(patience.healthy_after_s, patience.healthy_starts * start_s)


class Listener(Protocol):
    """Who wants to know. All calls come on the event loop."""

    @property
    def idle(self) -> bool:
        """Nothing has been asked of the worker that is not answered."""

    def loading(self, loading: Loading) -> None:
        """The start goes on."""

    def ready_with(self, facts: ModelFacts) -> None:
        """The worker takes work."""

    def deliver(self, events: list[StepEvent]) -> None:
        """One step's events."""

    def answered(self, number: int, answer: Tokens | Decoded | KeptPrefix | NoAnswer) -> None:
        """The answer to a question."""

    def lost(self, message: str) -> None:
        """The worker is gone and will be started again."""

    def given_up(self, message: str) -> None:
        """The worker is gone for good."""


class Supervisor:
    """Keeps one worker process alive. `run` returns after `stop`, or when it has given up."""

    def __init__(
        self,
        spec: Load,
        listener: Listener,
        patience: Patience | None = None,
        log_level: str = "info",
        starts: Starts | None = None,
    ) -> None:
        self._spec = spec
        self._starts = starts or LocalStarts()
        self._starting: asyncio.Task[None] | None = None
        self._log_level = log_level
        self._listener = listener
        self._patience = patience or Patience()
        self._channel: Channel[FromWorker] | None = None
        self._process: WorkerHandle | None = None
        self._closed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._heard_at = 0.0
        self._started_at = 0.0
        self._ready_at: float | None = None
        self._load_error: str | None = None
        self._unstarted: OSError | None = None
        """Why its last process did not come to be, or could not be reached."""
        self._killed_for: str | None = None
        self._canary = Canary(self._patience.canary_s if spec.model_type in WRITING else 0.0, self._patience.step_s)
        self.state = WorkerState.STARTING
        self._deaths = 0
        """In a row, the last of which may be long ago."""
        self._unplaced = 0
        """How often in a row there was no place for it: nothing has died of that."""
        self.restarts = 0
        self.memory: MlxMemory | None = None
        """What the worker last said of MLX's memory; None where it hasn't or there is no worker."""

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none on this machine."""
        return self._process.pid if self._process else None

    @property
    def steady(self) -> bool:
        """If it died now, no other death would have been shortly before."""
        return not self._deaths or (self.state is WorkerState.READY and self._was_healthy())

    @property
    def canaries(self) -> Counter[str]:
        """How many canaries came to which end."""
        return self._canary.outcomes

    @property
    def silence_s(self) -> float | None:
        """How long nothing was heard of the worker, in seconds; None without one."""
        lives = self._process is not None and self._process.lives
        return asyncio.get_running_loop().time() - self._heard_at if lives else None

    def submit(self, ticket: int, request: Work, rows: int, request_id: str | None) -> None:
        """Prepare a request and run it on `rows` rows."""
        self._send(Submit(ticket, request, rows, request_id))

    def grant(self, ticket: int, rows: int) -> None:
        """Run more of its sequences."""
        self._send(Grant(ticket, rows))

    def park(self, ticket: int) -> None:
        """Stop it until it is granted rows again."""
        self._send(Park(ticket))

    def cancel(self, ticket: int) -> None:
        """Stop it."""
        self._send(Cancel(ticket))

    def bind(self, limit_bytes: int | None) -> None:
        """Let its process, and each that takes its place, hold no more from now on; None: what it wants."""
        if limit_bytes != self._spec.memory_bytes:
            self._spec = replace(self._spec, memory_bytes=limit_bytes)
            self._send(Bound(limit_bytes))

    def ask(self, number: int, question: Question) -> None:
        """Have a question answered."""
        self._send(Ask(number, question))

    def withdraw(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        self._send(Withdraw(number))

    async def run(self) -> None:
        """Start the worker again and again. Raises StartError if it was never ready: at once, unless another start may
        do better."""
        was_ready = False
        try:
            while not self._stopping.is_set():
                message = await self._live()
                if self._stopping.is_set():
                    break
                was_ready = was_ready or self._ready_at is not None
                delay_s = self._delay_s() if was_ready or self._may_pass() else None
                if delay_s is None:
                    self.state = WorkerState.FAILED
                    if not was_ready:
                        raise StartError(message)
                    log.error("%s; it died %d times in a row and is given up", message, self._deaths)
                    self._listener.given_up(message)
                    return
                log.warning("%s; it is started again %s", message, f"in {delay_s:.1f} s" if delay_s else "at once")
                self.state = WorkerState.RESTARTING
                self.restarts += 1
                self._listener.lost(message)
                await self._pause(delay_s)
        finally:
            await self._end_process()
            await self._starts.release()
        self.state = WorkerState.STOPPED

    async def stop(self) -> None:
        """Have the worker release its model and exit; kill it if that takes too long. `run` returns then."""
        self._stopping.set()
        if self._starting is not None:
            self._starting.cancel()
        self._send(Stop())
        try:
            await asyncio.wait_for(self._closed.wait(), self._patience.stop_s if self._channel else 0)
        except TimeoutError:
            self._kill("did not stop in time")

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            pass

    def _may_pass(self) -> bool:
        """Whether the failure of a start says nothing of the next one's."""
        refused = self._load_error is not None or isinstance(self._unstarted, StartRefused)
        return self._starts.distant and not refused

    def _delay_s(self) -> float | None:
        """How long to wait before the next start; None: give up, as nobody does who waits for a place."""
        if isinstance(self._unstarted, NoPlace):
            self._unplaced += 1
            return wait_s(self._unplaced, self._patience)
        self._unplaced = 0
        self._deaths = 1 if self._was_healthy() else self._deaths + 1
        return backoff_s(self._deaths, self._patience)

    def _was_healthy(self) -> bool:
        if self._ready_at is None:
            return False
        served_s, start_s = asyncio.get_running_loop().time() - self._ready_at, self._ready_at - self._started_at
        return was_healthy(served_s, start_s, self._patience)

    async def _live(self) -> str:
        """One life of the process, from its start to its end; returns why it ended, as a sentence."""
        self._ready_at = self._load_error = self._unstarted = self._killed_for = None
        self._closed.clear()
        try:
            await self._spawn()
        except OSError as error:
            self._unstarted = error
            return f"The worker process could not be started: {one_line(error)}"
        except asyncio.CancelledError:
            if self._stopping.is_set():
                return "The worker process was not wanted any more"
            raise
        self.state = WorkerState.LOADING
        self._send(self._spec)
        if self._stopping.is_set():
            self._send(Stop())
        watch = asyncio.ensure_future(self._watch())
        try:
            await self._closed.wait()
        finally:
            watch.cancel()
            await self._end_process()
        return self._load_error or self._obituary()

    async def _spawn(self) -> None:
        self._starting = asyncio.ensure_future(self._start())
        try:
            await self._starting
        finally:
            self._starting = None

    async def _start(self) -> None:
        wanted = Wanted(self._spec.threads, self._log_level, self._spec.cache_dir)
        self._process = await self._starts.start(wanted, self._spec.model_type)
        self._started_at = asyncio.get_running_loop().time()
        channel = Channel(messages.decode_from_worker, self._on_message, self._closed.set)
        await self._process.connect(channel)
        self._heard_at = asyncio.get_running_loop().time()
        self._channel = channel

    def _send(self, message: ToWorker) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _on_message(self, message: FromWorker) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        match message:
            case Step():
                self._listener.deliver(message.events)
            case Answered():
                self._listener.answered(message.number, message.answer)
            case Heartbeat():
                self.memory = message.memory
                if message.step_s > self._patience.step_s:
                    self._kill(f"was in one step for more than {self._patience.step_s:g} s")
            case Loading():
                self._listener.loading(message)
            case Ready():
                self._ready_at = self._heard_at
                self._canary.begin(self._heard_at)
                self.state = WorkerState.READY
                self._listener.ready_with(message.facts)
            case CanaryEnded():
                self._canary.answered(self._heard_at, well=message.error is None)
                if message.error is not None:
                    self._kill(f"could not generate a token ({message.error})")
            case LoadFailed():
                self._load_error = message.message
            case _:
                assert_never(message)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            slept_from = loop.time()
            await asyncio.sleep(self._patience.check_s)
            if loop.time() - slept_from > self._patience.check_s + OVERSLEPT_S:
                self._heard_at = loop.time()  # this process itself was stopped: nobody could have been heard
                self._canary.overslept(self._heard_at)
            if self.state is WorkerState.READY:
                self._look_at_canary(loop.time())
            if loop.time() - self._heard_at > self._patience.heartbeat_s:
                self._kill(f"was silent for more than {self._patience.heartbeat_s:g} s")

    def _look_at_canary(self, now: float) -> None:
        if self._canary.due(now, idle=self._listener.idle):
            self._send(messages.Canary())
        elif self._canary.overdue(now):
            self._kill(f"did not generate a token in {self._patience.step_s:g} s")

    def _kill(self, reason: str) -> None:
        if self._process is not None and self._process.lives and self._killed_for is None:
            self._killed_for = reason
            self._process.kill()

    async def _end_process(self) -> None:
        """No process and no channel is left after this."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.memory = None
        if self._process is not None:
            await self._process.ended(self._patience.stop_s if self._stopping.is_set() else self._patience.exit_s)

    def _obituary(self) -> str:
        if self._killed_for:
            return f"The worker process {self._killed_for} and was killed"
        return self._process.obituary() if self._process is not None else "The worker process is gone"
