"""The queue of queries: questions to a worker that need its tokenizer and no row."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Protocol

from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.schemas.internal.messages import Decoded, FailureKind, KeptPrefix, NoAnswer, Question, Tokens

RETRY_AFTER_S = 1
"""Answers take milliseconds, once the model is there."""

Answer = Tokens | Decoded | KeptPrefix


class Unanswered(Exception):  # noqa: N818 - named for the fact
    """Raised when an accepted query has no answer; `why` tells the client."""

    def __init__(self, why: NoAnswer) -> None:
        super().__init__(why.message)
        self.why = why


class Oracle(Protocol):
    """Answers queries. None of the calls waits or raises."""

    def ask(self, number: int, question: Question) -> None:
        """Have a question answered."""

    def withdraw(self, number: int) -> None:
        """Nobody waits for the answer any more."""


@dataclass(slots=True)
class Query:
    """A query in flight at `oracle`; None while it waits for one."""

    question: Question
    future: asyncio.Future[Answer]
    oracle: Oracle | None = None


class QueryQueue:
    """Holds at most `limit` queries; they wait for a worker, each for at most `timeout_s`.

    Of several ready workers, the one with the fewest open queries gets the next.
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
        """A worker is ready: give it the waiting queries."""
        self._open[oracle] = 0
        for number, query in self._live.items():
            self._assign(number, query)

    def worker_lost(self, oracle: Oracle, message: str) -> None:
        """A worker died: its queries have no answer; later ones go to other workers, or wait for one."""
        if self._open.pop(oracle, None) is not None:
            lost = [number for number, query in self._live.items() if query.oracle is oracle]
            self._end(lost, NoAnswer(FailureKind.WORKER_LOST, message))

    def worker_left(self, oracle: Oracle) -> None:
        """A worker is stopped: its queries go to other workers, or wait for one."""
        self._open.pop(oracle, None)
        for number, query in self._live.items():
            if query.oracle is oracle:
                oracle.withdraw(number)
                query.oracle = None
                self._assign(number, query)

    def close(self, kind: FailureKind, message: str) -> None:
        """Take no more queries, and end the waiting ones; those in flight may still be answered."""
        self._closed = NoAnswer(kind, message)
        self._end([number for number, query in self._live.items() if query.oracle is None], self._closed)

    def abort(self, kind: FailureKind, message: str) -> None:
        """Close, and end queries in flight, too."""
        self.close(kind, message)
        self.fail_all(kind, message)

    def fail_all(self, kind: FailureKind, message: str) -> None:
        """End all queries, and go on taking others."""
        self._end(list(self._live), NoAnswer(kind, message))

    def answered(self, number: int, answer: Answer | NoAnswer) -> None:
        """A worker's answer; its client may have left."""
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
