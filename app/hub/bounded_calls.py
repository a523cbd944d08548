"""Calls that block, in threads: a few at once, each with a time limit, none of which keeps the server from ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

from mlx_server.workers.hub.errors import HubError, HubOffline

T = TypeVar("T")


class BoundedCalls:
    """At most `at_once` threads; a call waits for one and is answered in `timeout_s` seconds altogether."""

    def __init__(self, *, at_once: int = 4, timeout_s: float = 20.0) -> None:
        self._timeout_s = timeout_s
        self._semaphore = asyncio.Semaphore(at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, or the HubError that it raises; HubOffline if it takes too long."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._semaphore.acquire()
                call = Call(work, asyncio.get_running_loop().create_future(), self._semaphore.release)
                # A daemon: the interpreter would wait for a pool's threads before it ends.
                Thread(target=call.run, name="hub", daemon=True).start()
                answer: T = await call.answer
                return answer
        except TimeoutError:
            raise HubOffline(f"no answer in {self._timeout_s:g} s") from None


class Call(Generic[T]):
    """One call. Its thread's place is free when the thread has ended, whoever still waits for the answer."""

    def __init__(self, work: Callable[[], T], answer: asyncio.Future[T], ended: Callable[[], None]) -> None:
        self.answer = answer
        self._work = work
        self._ended = ended
        self._loop = answer.get_loop()

    def run(self) -> None:
        """The thread's work. Anything but a HubError is a mistake of ours and goes to the thread's own hook."""
        error: Exception = RuntimeError("a call to the hub failed")
        try:
            result = self._work()
        except HubError as refused:
            error = refused
            self._resolve(lambda: self.answer.set_exception(error))
        except BaseException:
            self._resolve(lambda: self.answer.set_exception(error))
            raise
        else:
            self._resolve(lambda: self.answer.set_result(result))

    def _resolve(self, settle: Callable[[], None]) -> None:
        def on_loop() -> None:
            self._ended()
            if not self.answer.done():
                settle()

        try:
            self._loop.call_soon_threadsafe(on_loop)
        except RuntimeError:
            # The loop has closed meanwhile: nobody waits any more.
            pass
