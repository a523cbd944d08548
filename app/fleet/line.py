"""Loads that wait for room, and who makes it: asks the ledger, and has idle models unloaded."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, assert_never

from mlx_server.app.deployment import Deployment
from mlx_server.app.fleet.errors import InsufficientMemory
from mlx_server.app.fleet.ledger import Evict, Fits, Holder, Ledger, Never, Wait

LOOK_AGAIN_S = 0.2
"""How often those that wait look whether a model has become idle: requests end without a word."""

PATIENCE_S = 5.0
"""A load that has waited longer may also displace a model that is always busy, between two of its requests."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WaitingLoad:
    """A load that waits for room; `position` 0 is the next."""

    name: str
    priority: int
    since: datetime
    position: int


@dataclass(eq=False)
class Entry:
    """A place in the line."""

    deployment: Deployment
    need_bytes: int
    priority: int
    number: int
    joined: float
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Line:
    """Admits loads: highest priority first, then first come first served. Nobody is passed by a smaller model."""

    def __init__(
        self,
        ledger: Ledger,
        holders: Callable[[], Iterable[Holder]],
        evict: Callable[[str, bool], Coroutine[Any, Any, None]],
    ) -> None:
        self.ledger = ledger
        self._holders = holders
        self._evict = evict
        self._entries: list[Entry] = []
        self._numbers = itertools.count()
        self._evicting: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> list[WaitingLoad]:
        """Who waits, the next one first."""
        return [
            WaitingLoad(entry.deployment.name, entry.priority, entry.since, position)
            for position, entry in enumerate(self._ordered())
        ]

    def set_priority(self, name: str, priority: int) -> None:
        """Move a load in the line; nothing if it is not there."""
        for entry in self._entries:
            if entry.deployment.name == name:
                entry.priority = priority
        self._changed.set()

    async def admit(self, deployment: Deployment, need_bytes: int, priority: int) -> None:
        """Wait for room; it is granted then. Raises InsufficientMemory."""
        now = asyncio.get_running_loop().time()
        entry = Entry(deployment, need_bytes, priority, next(self._numbers), now)
        self._entries.append(entry)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())
        try:
            await entry.admitted
        except asyncio.CancelledError:
            self._leave(entry)
            if entry.admitted.done() and not entry.admitted.cancelled():
                self.release(deployment.name)
            raise

    def fits_now(self, name: str, need_bytes: int) -> bool:
        """Whether there is room without unloading anything."""
        return not self._entries and isinstance(self.ledger.plan(name, need_bytes, list(self._holders())), Fits)

    def release(self, name: str) -> None:
        """A model holds nothing any more."""
        self.ledger.release(name)
        self._changed.set()

    def close(self) -> None:
        """Nobody is admitted any more."""
        if self._task is not None:
            self._task.cancel()
        for task in self._evicting.values():
            task.cancel()

    def _ordered(self) -> list[Entry]:
        return sorted(self._entries, key=lambda entry: (-entry.priority, entry.number))

    def _leave(self, entry: Entry) -> None:
        with contextlib.suppress(ValueError):
            self._entries.remove(entry)
        self._changed.set()

    async def _serve(self) -> None:
        while self._entries:
            self._changed.clear()
            if self._next():
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_AGAIN_S)

    def _next(self) -> bool:
        """Decide about the first in the line; False while it has to wait."""
        entry = self._ordered()[0]
        name = entry.deployment.name
        impatient = asyncio.get_running_loop().time() - entry.joined > PATIENCE_S
        match self.ledger.plan(name, entry.need_bytes, list(self._holders()), impatient=impatient):
            case Fits():
                self.ledger.grant(name, entry.need_bytes)
                self._leave(entry)
                if not entry.admitted.done():
                    entry.admitted.set_result(None)
                return True
            case Never(available, required):
                self._leave(entry)
                if not entry.admitted.done():
                    entry.admitted.set_exception(InsufficientMemory(available, required))
                return True
            case Evict(names):
                for other in names:
                    self._make_room(other, only_idle=not impatient)
                return False
            case Wait():
                return False
            case other_plan:
                assert_never(other_plan)

    def _make_room(self, name: str, *, only_idle: bool) -> None:
        if name in self._evicting:
            return
        log.info("%s is unloaded to make room", name)
        task = self._evicting[name] = asyncio.get_running_loop().create_task(self._evict(name, only_idle))

        def done(task: asyncio.Task[None]) -> None:
            self._evicting.pop(name, None)
            self._changed.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("%s could not be unloaded", name, exc_info=error)

        task.add_done_callback(done)
