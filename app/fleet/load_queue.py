"""Loads that wait for memory, and what frees it: asks the ledger, and has idle models unloaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, assert_never

from mlx_server.app.catalog.errors import FleetError, InsufficientMemory, ModelLimitReached
from mlx_server.app.fleet.ledger import Evict, Fits, Full, Ledger, LoadedModel, Never, Plan, Wait
from mlx_server.app.fleet.load_order import LoadOrder, PendingLoad, WaitingLoad

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
        loaded_models: Callable[[], Iterable[LoadedModel]],
        evict: Callable[[str, bool], Coroutine[Any, Any, None]],
    ) -> None:
        self.ledger = ledger
        self._loaded_models = loaded_models
        self._evict = evict
        self._order = LoadOrder()
        self._admitted: dict[PendingLoad, asyncio.Future[None]] = {}
        self._evicting: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> list[WaitingLoad]:
        """Who waits, the next one first."""
        return self._order.waiting

    def set_priority(self, name: str, priority: int) -> None:
        """Move a load in the queue; nothing if it is not there."""
        self._order.set_priority(name, priority)
        self._changed.set()

    async def admit(self, name: str, required_bytes: int, priority: int) -> None:
        """Wait for memory; it is granted then. Raises InsufficientMemory or ModelLimitReached."""
        load = self._order.add(name, required_bytes, priority, datetime.now(UTC))
        admitted = self._admitted[load] = asyncio.get_running_loop().create_future()
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
            del self._admitted[load]
            self._order.remove(load)
            self._changed.set()

    def fits_now(self, name: str, required_bytes: int) -> bool:
        """Whether there is memory without unloading anything."""
        plan = self.ledger.plan(name, required_bytes, list(self._loaded_models()))
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
        """Decide about the next in the queue; False while it has to wait."""
        loaded_models, now = list(self._loaded_models()), datetime.now(UTC)

        def impatient(load: PendingLoad) -> bool:
            return (now - load.since).total_seconds() > PATIENCE_S

        def plan(load: PendingLoad) -> Plan:
            return self.ledger.plan(load.name, load.required_bytes, loaded_models, impatient=impatient(load))

        decided = self._order.next(plan)
        if decided is None:
            return False
        load, what = decided
        admitted = self._admitted[load]
        match what:
            case Fits():
                self.ledger.grant(load.name, load.required_bytes)
                self._order.admit(load)
                if not admitted.done():
                    admitted.set_result(None)
            case Never(available, required):
                self._refuse(load, InsufficientMemory(available, required))
            case Full(most):
                self._refuse(load, ModelLimitReached(most))
            case Evict(names):
                for other in names:
                    self._start_eviction(other, only_idle=not impatient(load))
                return False
            case Wait():
                return False
            case other_plan:
                assert_never(other_plan)
        return True

    def _refuse(self, load: PendingLoad, error: FleetError) -> None:
        self._order.remove(load)
        if not self._admitted[load].done():
            self._admitted[load].set_exception(error)

    def _start_eviction(self, name: str, *, only_idle: bool) -> None:
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
