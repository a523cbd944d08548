"""Periodic upkeep: idle models, requests that were left without workers, the standby, memory."""

from __future__ import annotations

import asyncio
import itertools

from anyio import to_thread

from mlx_server.app.catalog.errors import ModelNotLoaded
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet import idle
from mlx_server.app.fleet.directory import Directory
from mlx_server.app.fleet.lifecycle import Lifecycle
from mlx_server.app.fleet.load_gate import LoadGate
from mlx_server.app.fleet.registry_sync import RegistrySync
from mlx_server.app.fleet.standby import Standby
from mlx_server.app.tasks import Tasks
from mlx_server.schemas.internal.messages import FailureKind

LOOK_S = 0.5
"""How often it is looked which models are idle."""

MEASURE_EVERY = 10
"""With every so many looks their memory is measured, and the registry brought up to date."""


class Maintenance:
    """Unloads idle models, and loads those with requests but no workers, until it is cancelled.

    `tasks` has what takes its time.
    """

    def __init__(
        self,
        directory: Directory,
        gate: LoadGate,
        standby: Standby,
        registry_sync: RegistrySync | None,
        tasks: Tasks,
    ) -> None:
        self._directory = directory
        self._gate = gate
        self._standby = standby
        self._registry_sync = registry_sync
        self._tasks = tasks

    async def run(self) -> None:
        """Look again and again."""
        for number in itertools.count(1):
            await asyncio.sleep(LOOK_S)
            now = asyncio.get_running_loop().time()
            lifecycles = list(self._directory.lifecycles.values())
            for lifecycle in lifecycles:
                self._look_at(lifecycle)
            for name in idle.overdue(map(self._idle_model, lifecycles), now):
                self._tasks.spawn(self._directory.lifecycles[name].unload(only_idle=True))
            self._standby.look()
            if number % MEASURE_EVERY == 0:
                await self._gate.measure()
                await to_thread.run_sync(self._standby.measure)
                if self._registry_sync is not None:
                    await self._registry_sync.refresh()

    def _look_at(self, lifecycle: Lifecycle) -> None:
        deployment = lifecycle.deployment
        if not deployment.busy:
            return
        self._gate.seen(deployment.name)
        if lifecycle.moving or self._directory.closing:
            return
        if deployment.state is ModelState.FAILED:
            deployment.fail_late()
        elif deployment.state is ModelState.UNLOADED:
            if self._directory.settings.auto_load:
                lifecycle.request_load()
            else:
                deployment.fail_all(FailureKind.UNAVAILABLE, str(ModelNotLoaded(deployment.name)))

    def _idle_model(self, lifecycle: Lifecycle) -> idle.IdleModel:
        deployment = lifecycle.deployment
        own, pinned = deployment.settings.idle_timeout_s, deployment.settings.pinned
        server_s = self._directory.settings.idle_timeout_s
        limit_s = idle.timeout_s(own, server_s, on_demand=lifecycle.on_demand, pinned=pinned)
        since = self._gate.active_at.get(deployment.name, 0.0)
        loaded = deployment.state is ModelState.LOADED and not lifecycle.moving
        return idle.IdleModel(deployment.name, since, limit_s if loaded else 0.0)
