"""What is simulated: a clock that jumps, replicas that take as long as one did here, front ends with real queues."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mlx_server.queue.beginnings import PER_TOKEN, KnownBeginnings, beginnings_of
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.messages import Finished, Text
from mlx_server.schemas.internal.work import Work


@dataclass(frozen=True, slots=True)
class Service:
    """A replica's rows, the tokens of prompts that it keeps, and its times in seconds: to read a token of a prompt, and
    to write one on each row."""

    rows: int
    kept_tokens: int
    prefill_s: float
    step_s: float


@dataclass
class Timer:
    """What is due at a time."""

    callback: Callable[..., object]
    args: tuple[object, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        """Nothing happens then."""
        self.cancelled = True


class JumpingClock:
    """A clock that goes from one timer to the next; the queue's `Clock`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        """Seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call back at that time."""
        timer = Timer(callback, args)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def run(self) -> None:
        """Go on until nothing is due."""
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self._now = max(self._now, when)
                timer.callback(*timer.args)


class Turn(GenerationRequest, frozen=True):
    """A request that came at `at_s`."""

    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one: seconds until its first token, and the tokens of its prompt that were known, of all."""

    first_token_s: float
    known: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Job:
    """A request at a replica, and who is told of its first token and of its end."""

    turn: Turn
    first: Callable[[], object]
    end: Callable[[Outcome], object]


class Replica:
    """Takes jobs of any number of front ends: as many at a time as it has rows, first come, first served."""

    def __init__(self, clock: JumpingClock, service: Service) -> None:
        self._clock = clock
        self._service = service
        self._free = service.rows
        self._waiting: deque[Job] = deque()
        self._kept = KnownBeginnings(self, {})
        self._kept.limit = service.kept_tokens * PER_TOKEN
        self.busy_s = 0.0
        """Seconds of all rows together in which they had something to do."""
        self.outcomes: list[Outcome] = []

    def take(self, job: Job) -> None:
        """Run it, now or later."""
        self._waiting.append(job)
        self._start()

    def _start(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            job = self._waiting.popleft()
            now, beginnings = self._clock.time(), beginnings_of(job.turn)
            known, tokens = self._kept.longest(beginnings) // PER_TOKEN, beginnings[-1].known // PER_TOKEN
            self._kept.add(beginnings)
            first_at = now + (tokens - known) * self._service.prefill_s + self._service.step_s
            end_at = first_at + (job.turn.max_tokens - 1) * self._service.step_s
            self.busy_s += end_at - now
            self.outcomes.append(Outcome(first_at - job.turn.at_s, known, tokens))
            self._clock.call_at(first_at, job.first)
            self._clock.call_at(end_at, self._end, job, self.outcomes[-1])

    def _end(self, job: Job, outcome: Outcome) -> None:
        self._free += 1
        job.end(outcome)
        self._start()


class Line:
    """From a front end's queue to a replica: the queue's `Backend`. `keeps`: the queue is told what the replica keeps,
    else it takes it for one that keeps nothing, and goes by load alone."""

    def __init__(self, queue: Dispatcher, replica: Replica, service: Service, *, keeps: bool) -> None:
        self._queue = queue
        self._replica = replica
        self._prepared: dict[int, Turn] = {}
        self._slots = queue.add_slots(self)
        queue.worker_ready(self._slots, service.rows, service.kept_tokens if keeps else 0)

    def submit(self, ticket: int, request: Work, rows: int, request_id: str | None) -> None:
        """Prepare it, and run it if it has a row."""
        assert isinstance(request, Turn)
        self._prepared[ticket] = request
        if rows:
            self.grant(ticket, rows)

    def grant(self, ticket: int, rows: int) -> None:
        """Run it."""

        def first() -> None:
            self._queue.deliver(self._slots, [Text(ticket, 0, "x", 1)])

        def end(outcome: Outcome) -> None:
            finished = Finished(ticket, 0, "stop", outcome.tokens, outcome.known, 1)
            self._queue.deliver(self._slots, [finished])

        self._replica.take(Job(self._prepared.pop(ticket), first, end))

    def park(self, ticket: int) -> None:
        """Never: no request here is an idle one."""
        raise AssertionError(ticket)

    def cancel(self, ticket: int) -> None:
        """It runs elsewhere."""
        self._prepared.pop(ticket, None)


class Queued:
    """A front end as it is: one queue before all replicas, and no word of other front ends."""

    def __init__(self, clock: JumpingClock, replicas: list[Replica], service: Service, *, keeps: bool) -> None:
        self._queue = Dispatcher(clock, queue_size=1 << 30, concurrency=service.rows, timeout_s=1e9)
        for replica in replicas:
            Line(self._queue, replica, service, keeps=keeps)

    def arrive(self, turn: Turn) -> None:
        """A request comes."""
        self._queue.submit(turn, whole=True)


class RoundRobin:
    """A front end that gives each request to the next replica."""

    def __init__(self, replicas: list[Replica], first: int) -> None:
        self._replicas = itertools.cycle((*replicas[first:], *replicas[:first]))

    def arrive(self, turn: Turn) -> None:
        """A request comes."""
        next(self._replicas).take(Job(turn, lambda: None, lambda outcome: None))
