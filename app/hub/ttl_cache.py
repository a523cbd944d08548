"""Answers that are kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class TTLCache(Generic[T]):
    """At most `most` answers, each for `seconds`. Who asks for what is being found out already waits for that."""

    def __init__(self, *, seconds: float, most: int = 256, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._answers: dict[Hashable, tuple[float, asyncio.Task[T]]] = {}

    async def get(self, key: Hashable, find_out: Callable[[], Awaitable[T]]) -> T:
        """The answer to `key`, found out if it isn't known. An error is raised to all who wait, and not kept."""
        now = self._clock()
        cached = self._answers.get(key)
        if cached is None or cached[0] <= now:
            self._drop(now)
            task = asyncio.ensure_future(find_out())
            cached = self._answers[key] = (now + self._seconds, task)
            task.add_done_callback(lambda done: self._forget_error(key, done))
        # One who leaves does not take the answer from the others.
        return await asyncio.shield(cached[1])

    def _drop(self, now: float) -> None:
        for key in [key for key, (until, _) in self._answers.items() if until <= now]:
            del self._answers[key]
        while len(self._answers) >= self._most:
            del self._answers[next(iter(self._answers))]

    def _forget_error(self, key: Hashable, task: asyncio.Future[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            cached = self._answers.get(key)
            if cached is not None and cached[1] is task:
                del self._answers[key]
