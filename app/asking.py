"""Questions to a worker that need its tokenizer and no row: how many tokens, which, what text."""

from __future__ import annotations

import asyncio
import itertools
from typing import Protocol

from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.schemas.messages import Decoded, FailureKind, Known, NoAnswer, Question, Tokens

RETRY_AFTER_S = 1
"""Answers take milliseconds, once the model is there."""

Answer = Tokens | Decoded | Known


class Unanswered(Exception):  # noqa: N818 - named for the fact
    """Raised when a question that was taken has no answer; `why` says it to the client."""

    def __init__(self, why: NoAnswer) -> None:
        super().__init__(why.message)
        self.why = why


class Oracle(Protocol):
    """Whoever answers. None of the calls waits or raises."""

    def ask(self, number: int, question: Question) -> None:
        """Have a question answered."""

    def withdraw(self, number: int) -> None:
        """Nobody waits for the answer any more."""


class Asking:
    """At most `limit` questions live; they wait until there is a worker, and none waits for more than `timeout_s`."""

    def __init__(self, oracle: Oracle, *, limit: int, timeout_s: float) -> None:
        self._oracle = oracle
        self._limit = limit
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._live: dict[int, tuple[Question, asyncio.Future[Answer]]] = {}
        self._ready = False
        self._closed: NoAnswer | None = None
        self.idle = asyncio.Event()
        """Set while no question lives."""
        self.idle.set()

    async def ask(self, question: Question) -> Answer:
        """The answer. Raises QueueFull, QueueClosed or Unanswered; whoever is cancelled gives its place back."""
        if self._closed is not None:
            raise QueueClosed(self._closed.kind, self._closed.message)
        if len(self._live) >= self._limit:
            raise QueueFull(RETRY_AFTER_S)
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._live[number] = question, future
        self.idle.clear()
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._ready:
                    self._oracle.ask(number, question)
                return await future
        except TimeoutError:
            message = f"Request processing timed out after {self._timeout_s:g} seconds"
            raise Unanswered(NoAnswer(FailureKind.TIMEOUT, message)) from None
        finally:
            if self._live.pop(number, None) is not None:
                self._oracle.withdraw(number)
            if not self._live:
                self.idle.set()

    def worker_ready(self) -> None:
        """Ask what has waited for a worker."""
        self._ready = True
        for number, (question, _) in self._live.items():
            self._oracle.ask(number, question)

    def worker_lost(self, message: str) -> None:
        """What the worker was asked has no answer; what comes now waits for the next worker."""
        if self._ready:
            self._ready = False
            self._end(NoAnswer(FailureKind.WORKER_LOST, message))

    def close(self, kind: FailureKind, message: str) -> None:
        """Take nothing more, and end what waits for a worker; what was asked may still be answered."""
        self._closed = NoAnswer(kind, message)
        if not self._ready:
            self._end(self._closed)

    def abort(self, kind: FailureKind, message: str) -> None:
        """Close, and end what was asked too."""
        self.close(kind, message)
        self._end(NoAnswer(kind, message))

    def answered(self, number: int, answer: Answer | NoAnswer) -> None:
        """What the worker says; nobody may be left to hear it."""
        _, future = self._live.pop(number, (None, None))
        if future is None or future.done():
            return
        if isinstance(answer, NoAnswer):
            future.set_exception(Unanswered(answer))
        else:
            future.set_result(answer)

    def _end(self, why: NoAnswer) -> None:
        for number in list(self._live):
            self.answered(number, why)
