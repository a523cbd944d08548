"""A worker process from the inside: the event loop decides, the engine thread computes.

The loop takes messages, has prompts prepared on the tokenizer's thread, hands sequences to the engine thread as rows
are granted, turns its tokens into text and sends one frame per step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import (
    Ask,
    Bound,
    Canary,
    CanaryEnded,
    Cancel,
    Failed,
    FailureKind,
    FromWorker,
    Grant,
    Heartbeat,
    Load,
    LoadFailed,
    Loading,
    Park,
    Progress,
    Ready,
    Step,
    StepEvent,
    Stop,
    Submit,
    ToWorker,
    Withdraw,
)
from mlx_server.schemas.internal.work import Work
from mlx_server.workers.channel import Channel
from mlx_server.workers.child.confinement import keep_to_own_folders, leave_the_network
from mlx_server.workers.child.engine_thread import EngineThread
from mlx_server.workers.child.job import Job, failure, generation_failed, prepared
from mlx_server.workers.child.lease import LeaseError, make_lease
from mlx_server.workers.child.preprocessing import Preprocessing
from mlx_server.workers.child.queries import Queries
from mlx_server.workers.child.ranks import Ranks
from mlx_server.workers.child.reports import Reports
from mlx_server.workers.engine.sequence import Broken, Computed, Echoed, Key, Produced, Sequence, Token
from mlx_server.workers.errors import GroupLost, ModelLoadError
from mlx_server.workers.handlers import import_handlers, make_handler
from mlx_server.workers.handlers.base import AnswerStream, Handler
from mlx_server.workers.log_lines import about

HEARTBEAT_S = 1.0

CANARY: Key = (-1, 0)
"""The key of the sequence that is nobody's: tickets are counted from 0."""

log = logging.getLogger(__name__)


class WorkerProcess:
    """One worker's life, from the first message to the last."""

    def __init__(self, cache_dir: Path, expected_types: Iterable[str]) -> None:
        """What models of the types that are expected need is imported from now on."""
        self._loop = asyncio.get_running_loop()
        self._importing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="import")
        self._imported = self._loop.run_in_executor(self._importing, import_handlers, cache_dir, expected_types)
        self._channel: Channel[ToWorker]
        self._handler: Handler
        self._engine: EngineThread | None = None
        self._preparing = Preprocessing()
        self._questions = Queries(self._preparing, self.send)
        self._reports = Reports(lambda news: self.send(Step([*news])))
        self._jobs: dict[int, Job] = {}
        self._answers: dict[Key, AnswerStream] = {}
        self._unannounced: set[Key] = set()
        """Sequences whose first token is to be announced."""
        self._writable = True
        self._unsent_steps = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.exit_code: asyncio.Future[int] = self._loop.create_future()
        """Set when the process should end: 0 after Stop or when the parent is gone, else 1."""

    def attach(self, channel: Channel[ToWorker]) -> None:
        """Use this channel to answer."""
        self._channel = channel

    def send(self, message: FromWorker) -> None:
        """Send one message to the parent."""
        self._channel.send(message)

    def end(self, code: int) -> None:
        """Ask for the end of the process. The first call wins."""
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    async def close(self) -> None:
        """Release the model on its own thread, then flush what was sent."""
        if self._engine is not None:
            await self._engine.stop()
        self._channel.close()

    def on_message(self, message: ToWorker) -> None:
        """Called by the channel."""
        match message:
            case Load():
                self._spawn(self._load(message))
            case Submit():
                self._spawn(self._take_in(message))
            case Grant():
                if known := self._jobs.get(message.ticket):
                    for resumed in known.resume(message.rows, self._answers.keys()):
                        self._engine_add(resumed)
                    self._start(message.ticket, known)
            case Park():
                if known := self._jobs.get(message.ticket):
                    for parked in known.park():
                        self._engine_remove(parked.key)
            case Cancel():
                self._forget(message.ticket)
            case Ask():
                self._spawn(self._questions.ask(message, self._handler))
            case Bound():
                if self._engine is not None:
                    self._engine.bind(message.limit_bytes)
            case Withdraw():
                self._questions.withdraw(message.number)
            case Canary():
                if self._engine is not None and (sequence := self._handler.canary(CANARY)) is not None:
                    self._engine.add(sequence)
            case Stop():
                self.end(0)
            case _:
                assert_never(message)

    def request_id(self, ticket: int) -> str | None:
        """What the log calls a ticket's request."""
        job = self._jobs.get(ticket)
        return None if job is None else job.request_id

    def on_writable(self, writable: bool) -> None:
        """Called by the channel: while the parent lags, the engine is not told that its steps were handled."""
        self._writable = writable
        while writable and self._unsent_steps and self._engine is not None:
            self._unsent_steps -= 1
            self._engine.step_handled()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(error)

    async def _load(self, spec: Load) -> None:
        self._spawn(self._beat())
        try:
            self.send(Loading("importing"))
            await self._imported
            ranks = () if spec.hosts is None else (await self._start_ranks(spec),)
            self._handler = await self._loop.run_in_executor(self._importing, make_handler, spec.model_type, *ranks)
            turns = make_lease(spec.lease, accelerated=self._handler.accelerated)
            self._importing.shutdown()
            keep_to_own_folders(spec)
            self._engine = EngineThread(self._handler, self._on_step, self._on_crash, turns)
            facts = await self._engine.load(spec, self.send)
            leave_the_network(spec)
        except (ModelLoadError, LeaseError) as error:
            self.send(LoadFailed(str(error)))
            self.end(1)
        except Exception as error:
            log.exception("the model can't be loaded")
            self.send(LoadFailed(" ".join(f"the model can't be loaded: {type(error).__name__}: {error}".split())))
            self.end(1)
        else:
            self.send(Ready(facts))

    async def _start_ranks(self, spec: Load) -> Ranks:
        ranks = Ranks(spec, self._on_lost)
        await ranks.meet()
        self._spawn(ranks.watch())
        return ranks

    async def _beat(self) -> None:
        while True:
            engine = self._engine
            step_s, memory = (engine.step_s, engine.memory) if engine else (0.0, None)
            self.send(Heartbeat(max(step_s, self._preparing.seconds), memory))
            await asyncio.sleep(HEARTBEAT_S)

    def _take_in(self, message: Submit) -> Coroutine[None, None, None]:
        ticket, request = message.ticket, message.request
        preparing = asyncio.ensure_future(self._sequences(ticket, request))
        writes = isinstance(request, GenerationRequest)
        job = self._jobs[ticket] = Job(message.rows, preparing, message.request_id, writes)
        if isinstance(request, GenerationRequest):
            job.announced = request.announce
        return self._prepare(ticket, job)

    async def _sequences(self, ticket: int, request: Work) -> list[Sequence]:
        decoded = await self._preparing.decoded(request, self._handler)
        opened = await self._preparing.opened(decoded, self._handler)
        return await self._preparing.tokenized(partial(self._handler.prepare, ticket, opened))

    async def _prepare(self, ticket: int, job: Job) -> None:
        try:
            job.sequences = await job.preparing
            if job.writes:
                self.send(Step([prepared(ticket, job.sequences)]))
            self._start(ticket, job)
        except asyncio.CancelledError:
            pass  # its client left meanwhile
        except InvalidRequest as error:
            self._fail(Failed(ticket, FailureKind.INVALID, error.message, error.param, error.code))
        except Exception as error:  # noqa: BLE001 - a chat template is a model's own code and may raise anything
            log.warning("a prompt could not be prepared: %s", type(error).__name__, extra=about([(ticket, 0)]))
            self._fail(Failed(ticket, FailureKind.ENGINE, generation_failed(error)))

    def _start(self, ticket: int, job: Job) -> None:
        """Put as many of its sequences on rows as were granted."""
        if job.sequences is None or self._engine is None or ticket not in self._jobs:
            return
        if job.writes and not job.started and job.granted:
            self._reports.add(ticket, job.sequences)
        for sequence in job.sequences[job.started : job.granted]:
            self._answers[sequence.key] = self._handler.answer_stream(sequence)
            if job.announced:
                self._unannounced.add(sequence.key)
            self._engine.add(sequence)
        job.started = min(job.granted, len(job.sequences))

    def _forget(self, ticket: int) -> None:
        self._reports.remove(ticket)
        job = self._jobs.pop(ticket, None)
        if job is None:
            return
        job.preparing.cancel()
        for sequence in (job.sequences or ())[: job.started]:
            self._drop(sequence.key)

    def _drop(self, key: Key) -> None:
        self._unannounced.discard(key)
        if self._answers.pop(key, None):
            self._engine_remove(key)

    def _engine_add(self, sequence: Sequence) -> None:
        if self._engine is not None:
            self._engine.add(sequence)

    def _engine_remove(self, key: Key) -> None:
        if self._engine is not None:
            self._engine.remove(key)

    def _fail(self, failed: Failed) -> None:
        if failed.ticket in self._jobs:
            self._forget(failed.ticket)
            self.send(Step([failed]))

    def _on_step(self, produced: list[Produced]) -> None:
        events: list[StepEvent] = []
        for item in produced:
            answer = self._answers.get(item.key)
            if answer is not None:
                self._on_produced(answer, item, events)
            elif item.key == CANARY:
                self._engine_remove(CANARY)
                self.send(CanaryEnded(item.message if isinstance(item, Broken) else None))
        if events:
            self.send(Step(events))
        if self._writable and self._engine is not None:
            self._engine.step_handled()
        else:
            self._unsent_steps += 1

    def _on_produced(self, answer: AnswerStream, item: Produced, events: list[StepEvent]) -> None:
        try:
            match item:
                case Token() | Echoed() | Computed():
                    if self._unannounced and item.key in self._unannounced:
                        self._unannounced.remove(item.key)
                        events.append(answer.started())
                    events += answer.add(item)
                    if isinstance(item, Computed) and item.progress is not None:
                        events.append(Progress(item.key[0], *item.progress))
                    if answer.finish is not None:
                        self._finish(answer, item.key, events)
                    return
                case Broken():
                    failed = failure(item)
        except Exception as error:  # noqa: BLE001 - a detokeniser may raise anything; the other sequences go on
            log.warning("a token could not be made text: %s", type(error).__name__, extra=about([item.key]))
            failed = failure(Broken(item.key, f"{type(error).__name__}: {error}"))
        self._forget(item.key[0])
        self._engine_remove(item.key)
        events.append(failed)

    def _finish(self, answer: AnswerStream, key: Key, events: list[StepEvent]) -> None:
        self._engine_remove(key)  # it may have made way and come back since it ended there
        del self._answers[key]
        events.append(answer.finished())
        self._finish_job(key[0])

    def _finish_job(self, ticket: int) -> None:
        job = self._jobs[ticket]
        sequences = job.sequences or []
        if job.started == len(sequences) and not any(s.key in self._answers for s in sequences):
            del self._jobs[ticket]
            self._reports.remove(ticket)

    def _on_lost(self, reason: str) -> None:
        if not self.exit_code.done():
            self.send(LoadFailed(reason))
            self.end(1)

    def _on_crash(self, error: BaseException) -> None:
        log.error("the engine can't go on", exc_info=error)
        if not isinstance(error, GroupLost):
            self.end(1)
