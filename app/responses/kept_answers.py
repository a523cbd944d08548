"""Answers that outlive their connections: what has been said is kept for a while, for who lost it on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from mlx_server.app.encoders import sse
from mlx_server.app.http.access_record import record_of
from mlx_server.app.tasks import Tasks

MOST_BYTES = 4 << 20
"""Of one answer. Of a longer stream only the end can be had again."""

MOST_IDLE_BYTES = 64 << 20
"""Of all answers that are complete and not being read. Those that have rested for longest go first."""

OWN_BYTES = 8 << 10
"""What an answer takes beside its pieces, roughly."""


class AnswerKey(NamedTuple):
    """Which answer a client means."""

    owner: str
    path: str
    idempotency_key: str


class KeptAnswer:
    """What an application says to one request, in pieces with the numbers 1, 2, …: the events of a stream, or the body.

    It is made whether somebody reads it or not, until it is `abandoned`.
    """

    def __init__(self, scope: Scope, body: bytes, fingerprint: bytes) -> None:
        """`scope` and `body` are those of the first request; `fingerprint` is equal in the same request alone."""
        self.scope = dict(scope)
        self.fingerprint = fingerprint
        self.head: Message | None = None
        self.ended = self.complete = False
        """Nothing follows; and nothing is missing."""
        self.abandoned = asyncio.Event()
        self.size = OWN_BYTES
        """What is kept of it, in bytes."""
        self.readers = 0
        self.timer: asyncio.TimerHandle | None = None
        """Goes off when it has rested for too long."""
        self._body: bytes | None = body
        self._is_stream = False
        self._pieces: dict[int, bytes] = {}
        self._first, self._last = 1, 0
        self._read_up_to: dict[object, int] = {}
        """The number of the last piece that each reader has."""
        self._changed = asyncio.Event()

    @property
    def went_well(self) -> bool:
        """It has been no refusal so far, and no failure."""
        return record_of(self.scope).status is None

    @property
    def is_cut(self) -> bool:
        """It is no stream, and not whole any more: only those who read it already get to its end."""
        return self._first > 1 and not self._is_stream

    def has_after(self, number: int) -> bool:
        """Whether all that comes after the piece of this number can be had."""
        return self._first - 1 <= number <= self._last

    async def make(self, app: ASGIApp) -> None:
        """Have the application answer."""
        try:
            await app(self.scope, self._receive, self._send)
        finally:
            self.ended = True
            self._tell()

    async def begun(self) -> Message | None:
        """The answer's head, once there is one; None if there will be none."""
        while self.head is None and not self.ended:
            await self._changed.wait()
        return self.head

    async def after(self, number: int) -> AsyncGenerator[bytes]:
        """The pieces after this number, as they come."""
        reader = object()
        self._read_up_to[reader] = number
        try:
            while True:
                while number < self._last:
                    yield self._pieces[number + 1]
                    self._read_up_to[reader] = number = number + 1
                    self._tell()
                if self.ended:
                    return
                await self._changed.wait()
        finally:
            del self._read_up_to[reader]
            self._tell()

    async def _receive(self) -> Message:
        if (body := self._body) is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.abandoned.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = message
            self._is_stream = Headers(raw=message["headers"])["content-type"].startswith("text/event-stream")
        else:
            body = message.get("body", b"")
            self._add(sse.split(body) if self._is_stream and not sse.is_comment(body) else [body])
            self.complete = not message.get("more_body", False)
        self._tell()
        while self.size > OWN_BYTES + MOST_BYTES and self._first < self._last:
            if min(self._read_up_to.values(), default=self._first) < self._first:
                await self._changed.wait()  # a slow reader has not had what would go
            else:
                self.size -= len(self._pieces.pop(self._first))
                self._first += 1

    def _add(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._last += 1
            is_event = self._is_stream and not sse.is_comment(piece)
            numbered = b"id: %d\n%b" % (self._last, piece) if is_event else piece
            self._pieces[self._last] = numbered
            self.size += len(numbered)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class KeptAnswers:
    """Answers that can be had again: while somebody reads them, and `rest_s` seconds from then and from their end."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._answers: dict[AnswerKey, KeptAnswer] = {}
        self._resting: dict[AnswerKey, KeptAnswer] = {}
        """Those that are complete and not being read, from the one that has rested for longest."""
        self._resting_bytes = 0
        self._tasks = Tasks("an answer that is kept")

    def get(self, key: AnswerKey) -> KeptAnswer | None:
        """The answer that is kept by this key."""
        return self._answers.get(key)

    def start(self, key: AnswerKey, answer: KeptAnswer, app: ASGIApp) -> None:
        """Have an application make an answer, and keep it, in the place of the one that had this key."""
        if (earlier := self._answers.pop(key, None)) is not None:
            self._rest(key, earlier)
        self._answers[key] = answer
        self._tasks.spawn(self._make(key, answer, app))

    @contextmanager
    def reading(self, key: AnswerKey, answer: KeptAnswer) -> Iterator[None]:
        """Somebody reads an answer meanwhile."""
        self._wake(key, answer)
        answer.readers += 1
        try:
            yield
        finally:
            answer.readers -= 1
            self._rest(key, answer)

    async def close(self) -> None:
        """Give up what is still made."""
        for key, answer in list(self._answers.items()):
            self._forget(key, answer)
        await self._tasks.wait()

    async def _make(self, key: AnswerKey, answer: KeptAnswer, app: ASGIApp) -> None:
        await answer.make(app)
        if answer.went_well:
            self._rest(key, answer)
        else:  # who asks again has it tried again
            self._forget(key, answer)

    def _rest(self, key: AnswerKey, answer: KeptAnswer) -> None:
        if answer.readers:
            return
        if self._answers.get(key) is not answer:
            self._forget(key, answer)
            return
        self._wake(key, answer)
        answer.timer = asyncio.get_running_loop().call_later(self._rest_s, self._forget, key, answer)
        if answer.ended:
            self._resting[key] = answer
            self._resting_bytes += answer.size
            while self._resting_bytes > MOST_IDLE_BYTES:
                self._forget(*next(iter(self._resting.items())))

    def _wake(self, key: AnswerKey, answer: KeptAnswer) -> None:
        if answer.timer is not None:
            answer.timer.cancel()
            answer.timer = None
        if self._resting.get(key) is answer:
            del self._resting[key]
            self._resting_bytes -= answer.size

    def _forget(self, key: AnswerKey, answer: KeptAnswer) -> None:
        self._wake(key, answer)
        if self._answers.get(key) is answer:
            del self._answers[key]
        answer.abandoned.set()
