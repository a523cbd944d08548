"""Questions to a worker that need its tokenizer and no row: how many tokens, which, what text."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Protocol

from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.schemas.internal.messages import Decoded, FailureKind, Known, NoAnswer, Question, Tokens

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


@dataclass(slots=True)
class Query:
    """A question that lives; `oracle` has it, None while it waits for one."""

    question: Question
    future: asyncio.Future[Answer]
    oracle: Oracle | None = None


class QueryQueue:
    """At most `limit` questions live; they wait until there is a worker, and none waits for more than `timeout_s`.

    Of several workers that are ready the one is asked that has the fewest questions open.
    """

    def __init__(self, *, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._live: dict[int, Query] = {}
        self._open: dict[Oracle, int] = {}  # of those that are ready
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
        query = self._live[number] = Query(question, asyncio.get_running_loop().create_future())
        self.idle.clear()
        try:
            async with asyncio.timeout(self._timeout_s):
                self._assign(number, query)
                return await query.future
        except TimeoutError:
            message = f"Request processing timed out after {self._timeout_s:g} seconds (--queue-timeout)"
            raise Unanswered(NoAnswer(FailureKind.TIMEOUT, message)) from None
        finally:
            removed = self._forget(number)
            if removed is not None and removed.oracle is not None:
                removed.oracle.withdraw(number)
            if not self._live:
                self.idle.set()

    def worker_ready(self, oracle: Oracle) -> None:
        """A worker answers: ask what has waited for one."""
        self._open[oracle] = 0
        for number, query in self._live.items():
            self._assign(number, query)

    def worker_lost(self, oracle: Oracle, message: str) -> None:
        """What a worker was asked has no answer; what comes now is for the others, or waits for the next."""
        if self._open.pop(oracle, None) is not None:
            lost = [number for number, query in self._live.items() if query.oracle is oracle]
            self._end(lost, NoAnswer(FailureKind.WORKER_LOST, message))

    def worker_left(self, oracle: Oracle) -> None:
        """A worker is ended by us: what it was asked is asked again elsewhere, or waits for the next."""
        self._open.pop(oracle, None)
        for number, query in self._live.items():
            if query.oracle is oracle:
                oracle.withdraw(number)
                query.oracle = None
                self._assign(number, query)

    def close(self, kind: FailureKind, message: str) -> None:
        """Take nothing more, and end what waits for a worker; what was asked may still be answered."""
        self._closed = NoAnswer(kind, message)
        self._end([number for number, query in self._live.items() if query.oracle is None], self._closed)

    def abort(self, kind: FailureKind, message: str) -> None:
        """Close, and end what was asked too."""
        self.close(kind, message)
        self.fail_all(kind, message)

    def fail_all(self, kind: FailureKind, message: str) -> None:
        """End all that live, and go on taking questions."""
        self._end(list(self._live), NoAnswer(kind, message))

    def answered(self, number: int, answer: Answer | NoAnswer) -> None:
        """What a worker says; nobody may be left to hear it."""
        query = self._forget(number)
        if query is None or query.future.done():
            return
        if isinstance(answer, NoAnswer):
            query.future.set_exception(Unanswered(answer))
        else:
            query.future.set_result(answer)

    def _assign(self, number: int, query: Query) -> None:
        if query.oracle is None and self._open:
            query.oracle = min(self._open, key=self._open.__getitem__)
            self._open[query.oracle] += 1
            query.oracle.ask(number, query.question)

    def _forget(self, number: int) -> Query | None:
        query = self._live.pop(number, None)
        if query is not None and query.oracle in self._open:
            self._open[query.oracle] -= 1
        return query

    def _end(self, numbers: list[int], why: NoAnswer) -> None:
        for number in numbers:
            self.answered(number, why)
