"""What is looked after while the server runs: idle models, requests that were left without workers, memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from mlx_server.app.catalog.errors import ModelNotLoaded
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet import idle
from mlx_server.app.fleet.directory import Roster
from mlx_server.app.fleet.lifecycle import Keeper
from mlx_server.app.fleet.load_gate import Room
from mlx_server.app.fleet.registry_sync import Registered
from mlx_server.schemas.internal.messages import FailureKind

LOOK_S = 0.5
"""How often it is looked which models are idle."""

MEASURE_EVERY = 10
"""With every so many looks their memory is measured, and the registry brought up to date."""

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Upkeep:
    """Unloads whom nobody uses, and loads who was left with requests, until it is cancelled.

    `spawn` runs what takes its time.
    """

    def __init__(self, roster: Roster, room: Room, registered: Registered | None, spawn: Spawn) -> None:
        self._roster = roster
        self._room = room
        self._registered = registered
        self._spawn = spawn

    async def run(self) -> None:
        """Look again and again."""
        for number in itertools.count(1):
            await asyncio.sleep(LOOK_S)
            now = asyncio.get_running_loop().time()
            keepers = list(self._roster.keepers.values())
            for keeper in keepers:
                self._look_at(keeper)
            for name in idle.overdue(map(self._idler, keepers), now):
                self._spawn(self._roster.keepers[name].unload(only_idle=True))
            if number % MEASURE_EVERY == 0:
                await self._room.measure()
                if self._registered is not None:
                    await self._registered.refresh()

    def _look_at(self, keeper: Keeper) -> None:
        deployment = keeper.deployment
        if not deployment.busy:
            return
        self._room.seen(deployment.name)
        if deployment.state is ModelState.UNLOADED and not keeper.moving and not self._roster.closing:
            if self._roster.settings.auto_load:
                keeper.want()
            else:
                deployment.refuse_waiting(FailureKind.UNAVAILABLE, str(ModelNotLoaded(deployment.name)))

    def _idler(self, keeper: Keeper) -> idle.Idler:
        deployment = keeper.deployment
        own, pinned = deployment.settings.idle_timeout_s, deployment.settings.pinned
        server_s = self._roster.settings.idle_timeout_s
        limit_s = idle.timeout_s(own, server_s, on_demand=keeper.on_demand, pinned=pinned)
        since = self._room.active_at.get(deployment.name, 0.0)
        loaded = deployment.state is ModelState.LOADED and not keeper.moving
        return idle.Idler(deployment.name, since, limit_s if loaded else 0.0)
