"""The gate for loads: how much memory a model needs, which models hold memory now, and which ones go for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping

from anyio import to_thread

from mlx_server.app.config.settings import Settings
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.fleet.ledger import Ledger, LoadedModel
from mlx_server.app.fleet.lifecycle import SERVED, Lifecycle
from mlx_server.app.fleet.load_queue import LoadQueue
from mlx_server.app.fleet.memory import estimate_here
from mlx_server.app.fleet.memory_estimate import MemoryEstimate
from mlx_server.app.machine.device import find_device

log = logging.getLogger(__name__)


class LoadGate:
    """Frees memory for loads; a lifecycle's gate."""

    def __init__(self, settings: Settings, lifecycles: Mapping[str, Lifecycle]) -> None:
        self.settings = settings
        self.device = find_device()
        self.ledger = Ledger(settings.memory_limit_bytes or self.device.limit_bytes, settings.max_models)
        self.queue = LoadQueue(self.ledger, self._loaded_models, self._evict)
        self.active_at: dict[str, float] = {}
        """When each model was last seen with work, by the event loop's clock."""
        self._lifecycles = lifecycles

    def apply_settings(self, settings: Settings) -> None:
        """Replace the settings."""
        self.settings = settings
        self.ledger.limit_bytes = settings.memory_limit_bytes or self.device.limit_bytes
        self.ledger.max_models = settings.max_models

    async def estimate(self, deployment: Deployment) -> MemoryEstimate:
        """What a model will need, with its weights held as a limit that was set allows."""
        limit = self.settings.memory_limit_bytes
        if self.settings.cluster is None and limit is None and not self._is_sole(deployment):
            limit = self.ledger.limit_bytes
        return await to_thread.run_sync(estimate_here, deployment.settings, deployment.type, self.device, limit)

    async def required_bytes(self, deployment: Deployment) -> int:
        """The same in one number, 0 on a cluster, where it is Ray that counts. A server's only model is loaded whatever
        it needs, unless a limit was set."""
        alone = self._is_free(deployment)
        estimate = await self.estimate(deployment)
        deployment.cpu_dtype = estimate.cpu_dtype
        deployment.prefix_most = None if alone else estimate.prefixes
        if self.settings.cluster is not None:
            deployment.replica_bytes = estimate.total // deployment.settings.replicas
            return 0
        return 0 if alone else estimate.total

    async def admit(self, deployment: Deployment, priority: int) -> None:
        """Wait for memory. Raises InsufficientMemory."""
        await self.queue.admit(deployment.name, await self.required_bytes(deployment), priority)
        self._bind()

    async def has_spare(self, deployment: Deployment, rest_s: float) -> bool:
        """Whether there is memory that nobody waits for, and that is no model's which is pinned or was used in the last
        `rest_s` seconds."""
        required_bytes = await self.required_bytes(deployment)
        since = asyncio.get_running_loop().time() - rest_s
        spare = self.ledger.has_spare(deployment.name, required_bytes, list(self._loaded_models()), since)
        return spare and not self.queue.waiting

    def release(self, deployment: Deployment) -> None:
        """Free a model's memory."""
        self.queue.release(deployment.name)
        self._bind()

    def seen(self, name: str) -> None:
        """Note that a model is in use."""
        self.active_at[name] = asyncio.get_running_loop().time()

    async def measure(self) -> None:
        """Tell the ledger what loaded models really hold."""
        loaded = [one for one in self._deployments() if one.state in SERVED]

        def measured() -> dict[str, int]:
            return {one.name: one.memory_bytes() for one in loaded}

        for name, used in (await to_thread.run_sync(measured)).items():
            self.ledger.measured(name, used)
        self._bind()
        for name in self.ledger.surplus(list(self._loaded_models())):
            log.info("%s is unloaded: models hold more memory than there is for them", name)
            await self._evict(name, only_idle=True)

    def _bind(self) -> None:
        """Tell all models how much they may hold now."""
        bounds = self.ledger.bounds()
        for one in self._deployments():
            if self.settings.cluster is not None:  # what Ray was asked for
                one.bind(one.replica_bytes * one.settings.replicas or None)
            else:
                one.bind(None if self._is_free(one) else bounds.get(one.name))

    def _is_free(self, deployment: Deployment) -> bool:
        """It is the machine's only model, and may take what it wants: no limit was set."""
        own = self.settings.cluster is None and self.settings.memory_limit_bytes is None
        return own and self._is_sole(deployment)

    def _is_sole(self, deployment: Deployment) -> bool:
        """It is the server's only model, however it is pinned by now."""
        sole = self.settings.sole
        return sole is not None and sole.public_name == deployment.name

    def _deployments(self) -> Iterator[Deployment]:
        return (lifecycle.deployment for lifecycle in self._lifecycles.values())

    def _loaded_models(self) -> Iterable[LoadedModel]:
        for one in self._deployments():
            if one.state in SERVED:
                yield LoadedModel(one.name, self.active_at.get(one.name, 0.0), not one.wanted, one.settings.pinned)

    async def _evict(self, name: str, only_idle: bool) -> None:
        lifecycle = self._lifecycles.get(name)
        if lifecycle is not None:
            await lifecycle.unload(only_idle=only_idle)
