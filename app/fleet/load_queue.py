"""Loads that wait for room, and who makes it: asks the ledger, and has idle models unloaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, assert_never

from mlx_server.app.catalog.errors import FleetError, InsufficientMemory, NoPlace
from mlx_server.app.fleet.ledger import Evict, Fits, Full, Holder, Ledger, Never, Plan, Wait
from mlx_server.app.fleet.load_order import LoadOrder, Place, WaitingLoad

LOOK_AGAIN_S = 0.2
"""How often those that wait look whether a model has become idle: requests end without a word."""

PATIENCE_S = 5.0
"""A load that has waited longer may also displace a model that is always busy, between two of its requests."""

log = logging.getLogger(__name__)


class LoadQueue:
    """Admits loads in their order, and has others unloaded for them."""

    def __init__(
        self,
        ledger: Ledger,
        holders: Callable[[], Iterable[Holder]],
        evict: Callable[[str, bool], Coroutine[Any, Any, None]],
    ) -> None:
        self.ledger = ledger
        self._holders = holders
        self._evict = evict
        self._order = LoadOrder()
        self._admitted: dict[Place, asyncio.Future[None]] = {}
        self._evicting: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> list[WaitingLoad]:
        """Who waits, the next one first."""
        return self._order.waiting

    def set_priority(self, name: str, priority: int) -> None:
        """Move a load in the line; nothing if it is not there."""
        self._order.set_priority(name, priority)
        self._changed.set()

    async def admit(self, name: str, need_bytes: int, priority: int) -> None:
        """Wait for room; it is granted then. Raises InsufficientMemory or NoPlace."""
        place = self._order.join(name, need_bytes, priority, datetime.now(UTC))
        admitted = self._admitted[place] = asyncio.get_running_loop().create_future()
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.release(name)
            raise
        finally:
            del self._admitted[place]
            self._order.leave(place)
            self._changed.set()

    def fits_now(self, name: str, need_bytes: int) -> bool:
        """Whether there is room without unloading anything."""
        plan = self.ledger.plan(name, need_bytes, list(self._holders()))
        return not len(self._order) and isinstance(plan, Fits)

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

    async def _serve(self) -> None:
        while len(self._order):
            self._changed.clear()
            if self._next():
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_AGAIN_S)

    def _next(self) -> bool:
        """Decide about the next in the line; False while it has to wait."""
        holders, now = list(self._holders()), datetime.now(UTC)

        def impatient(place: Place) -> bool:
            return (now - place.since).total_seconds() > PATIENCE_S

        def plan(place: Place) -> Plan:
            return self.ledger.plan(place.name, place.need_bytes, holders, impatient=impatient(place))

        decided = self._order.next(plan)
        if decided is None:
            return False
        place, what = decided
        admitted = self._admitted[place]
        match what:
            case Fits():
                self.ledger.grant(place.name, place.need_bytes)
                self._order.admit(place)
                if not admitted.done():
                    admitted.set_result(None)
            case Never(available, required):
                self._refuse(place, InsufficientMemory(available, required))
            case Full(most):
                self._refuse(place, NoPlace(most))
            case Evict(names):
                for other in names:
                    self._make_room(other, only_idle=not impatient(place))
                return False
            case Wait():
                return False
            case other_plan:
                assert_never(other_plan)
        return True

    def _refuse(self, place: Place, error: FleetError) -> None:
        self._order.leave(place)
        if not self._admitted[place].done():
            self._admitted[place].set_exception(error)

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
