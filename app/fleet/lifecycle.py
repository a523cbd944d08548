"""Owns one model's transitions: one after the other; whoever asks for the same one waits for the same task."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from mlx_server.app.catalog.errors import FleetError, InsufficientMemory, LoadFailed, ModelBusy, ModelLimitReached
from mlx_server.app.deployment.deployment import Deployment, StartFailed
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.schemas.internal.messages import FailureKind

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0

SERVED = (ModelState.LOADED, ModelState.RESTARTING)

log = logging.getLogger(__name__)


class Gate(Protocol):
    """Decides when a model fits into memory."""

    async def admit(self, deployment: Deployment, priority: int) -> None:
        """Wait until it may be loaded. Raises InsufficientMemory or ModelLimitReached."""

    def release(self, deployment: Deployment) -> None:
        """Free the deployment's memory."""


def retry_after_s(failures: int) -> float:
    """How long after so many failures in a row a request may try again."""
    return float(min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** (min(failures, 16) - 1)))


class Lifecycle:
    """Loads and unloads one deployment."""

    def __init__(self, deployment: Deployment, gate: Gate) -> None:
        self.deployment = deployment
        self.on_demand = False
        """It was loaded because somebody asked, not at the start."""
        self.after: asyncio.Future[None] | None = None
        """What must end before it is loaded for the first time: until then its name's memory is another's."""
        self._gate = gate
        self._lock = asyncio.Lock()
        self._loading: asyncio.Task[None] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._closed = False

    @property
    def backoff_s(self) -> float:
        """How long requests are still refused after a failure, in seconds."""
        if self.deployment.state is not ModelState.FAILED:
            return 0.0
        return max(0.0, self._retry_at - asyncio.get_running_loop().time())

    @property
    def moving(self) -> bool:
        """It is being loaded or unloaded, or waits for that."""
        return self._lock.locked() or self._loading is not None

    def request_load(self, priority: int = 0, *, reload: bool = False) -> asyncio.Task[None]:
        """Have it loaded, once: whoever asks meanwhile gets the same task. The task raises FleetError."""
        if self._loading is None:
            self.deployment.awaited = True
            self._loading = asyncio.get_running_loop().create_task(self._load(priority, reload=reload))
            self._loading.add_done_callback(self._loaded)
        return self._loading

    async def load(self, priority: int = 0, *, reload: bool = False) -> None:
        """Have it loaded, and wait for that. Raises FleetError, ModelBusy if it is unloaded by force meanwhile."""
        task = self.request_load(priority, reload=reload)
        await asyncio.wait([task])
        if task.cancelled():
            raise ModelBusy(f"Model {self.deployment.name!r} was unloaded while it was to be loaded.")
        task.result()

    async def unload(self, *, force: bool = False, only_idle: bool = False) -> None:
        """End its workers: after what runs, or at once. `only_idle`: not if it has got a request meanwhile that
        is no idle one; those end.

        Returns once the processes are gone. Idempotent.
        """
        deployment = self.deployment
        if force:
            if self._loading is not None:
                self._loading.cancel()
                await asyncio.wait([self._loading])
            deployment.fail_all(FailureKind.UNAVAILABLE, f"Model {deployment.name!r} was unloaded.")
        async with self._lock:
            if only_idle and deployment.wanted:
                return
            if only_idle:
                deployment.fail_idle(f"Model {deployment.name!r} was unloaded.")
            await deployment.unload(force=force)
            if self.after is None or self.after.done():
                self._gate.release(deployment)

    def given_up(self) -> None:
        """Its workers died again and again, or could not be started."""
        self._failures += 1
        self._retry_at = asyncio.get_running_loop().time() + retry_after_s(self._failures)

    async def close(self) -> None:
        """End everything; the last call. Loads that are asked for later raise ModelBusy."""
        self._closed = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        async with self._lock:
            await self.deployment.stop()

    async def _load(self, priority: int, *, reload: bool) -> None:
        deployment = self.deployment
        if self._closed:
            raise ModelBusy(f"Model {deployment.name!r} is not served any more.")
        if self.after is not None:
            await asyncio.wait([self.after])
            self.after = None
        async with self._lock:
            if deployment.state in SERVED:
                if not reload:
                    return
                await deployment.unload(force=False)
                self._gate.release(deployment)
            try:
                await self._gate.admit(deployment, priority)
                await deployment.load()
                self._failures = 0
            except StartFailed as error:
                self._gate.release(deployment)
                raise LoadFailed(str(error)) from None
            except (InsufficientMemory, ModelLimitReached) as error:
                deployment.fail(str(error), FailureKind.INVALID)
                self._retry_at = 0.0
                raise
            except asyncio.CancelledError:
                self._gate.release(deployment)
                raise

    def _loaded(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        self.deployment.awaited = False
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, FleetError):
            log.error("a model could not be loaded", exc_info=error)
            if self.deployment.state in (ModelState.UNLOADED, ModelState.FAILED):
                self.deployment.fail(f"{type(error).__name__}: {error}")
