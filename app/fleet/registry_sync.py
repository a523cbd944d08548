"""The registry's models by their names in memory, and what becomes of models back to the registry.

Neither is on the path of a request to a model that is loaded: what happens is gathered, and written now and then.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from anyio import to_thread

from mlx_server.app.catalog.errors import NotServable
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.catalog.served_type import read
from mlx_server.app.config.names import is_name
from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.catalogue import ModelEntry
from mlx_server.app.fleet.events import ModelEvent
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.rows import KV_BYTES, STEP_BYTES, ModelRow, on_disk
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.folders.model_path import HUB_ID

log = logging.getLogger(__name__)


class RegistrySync:
    """What the fleet knows of the registry. `defaults`: how its models are served."""

    def __init__(self, registry: Registry, defaults: ModelSettings) -> None:
        self._registry = registry
        self._rows: dict[str, ModelRow] = {}
        self._uses: dict[str, tuple[int, datetime]] = {}
        self._states: dict[str, tuple[ModelSettings, ModelEvent]] = {}
        self._served: set[str] = set()
        """Names of models that could be loaded."""
        self.defaults = defaults

    @property
    def available(self) -> Sequence[ModelEntry]:
        """The models that can be served from this machine or the hub."""
        rows = {row.name: row for row in self._rows.values()}
        failed = ModelState.FAILED.value
        return [
            ModelEntry(row.name, self._settings_of(row), "registry", on_disk(row), failed=row.status == failed)
            for row in rows.values()
            if usable(row)
        ]

    def find(self, name: str) -> ModelSettings | None:
        """A model as it was when the registry was read last."""
        row = self._rows.get(name)
        return self._settings_of(row) if row is not None and usable(row) else None

    async def look_up(self, name: str) -> ModelSettings | None:
        """A model as it is in the registry now."""
        try:
            row = await self._registry.model(name)
        except sqlite3.Error as error:
            log.error("the registry can't be read: %s", error)
            return self.find(name)
        return self._settings_of(row) if row is not None and usable(row) else None

    def used(self, name: str) -> None:
        """A request has named a model."""
        count, _ = self._uses.get(name, (0, None))
        self._uses[name] = count + 1, datetime.now(UTC)

    def moved(self, settings: ModelSettings, event: ModelEvent) -> None:
        """A model is in another state; of several since the last time the last is kept."""
        if event.state is ModelState.LOADED:
            self._served.add(event.model)
        self._states[event.model] = settings, event

    async def forget(self, name: str) -> None:
        """A model was deleted. Raises sqlite3.Error."""
        self._states.pop(name, None)
        await self._registry.remove(name)
        self._rows = {other: row for other, row in self._rows.items() if row.name != name}

    async def refresh(self) -> None:
        """Write what has happened, and read what others have changed."""
        uses, self._uses = self._uses, {}
        states, self._states = self._states, {}
        try:
            for settings, event in states.values():
                await self._keep(settings, event)
            states = {}
            if uses:
                await self._registry.record_uses(uses)
                uses = {}
            rows = await self._registry.models()
        except sqlite3.Error as error:
            log.error("the registry can't be used: %s", error)
            self._put_back(states, uses)
            return
        self._rows = {name: row for row in reversed(rows) for name in (*row.aliases, row.name)}

    def _put_back(
        self, states: dict[str, tuple[ModelSettings, ModelEvent]], uses: dict[str, tuple[int, datetime]]
    ) -> None:
        """Have what could not be written written the next time, with what has happened since."""
        self._states = states | self._states
        for name, (count, at) in uses.items():
            more, later = self._uses.get(name, (0, at))
            self._uses[name] = count + more, later

    async def _keep(self, settings: ModelSettings, event: ModelEvent) -> None:
        name = event.model
        if not is_name(name) or settings.type == "scripted":
            return
        updated = await self._registry.set_status(name, event.state.value, event.error_message)
        if not updated and name in self._served:
            try:
                found = await to_thread.run_sync(read, settings)
                await self._registry.save(row_of(name, settings, event, found))
            except (InvalidRequest, NotServable) as error:
                log.warning("the registry does not keep %s: %s", name, error)

    def _settings_of(self, row: ModelRow) -> ModelSettings:
        return replace(self.defaults, path=row.path or row.hub_id or "", name=row.name, aliases=row.aliases)


def usable(row: ModelRow) -> bool:
    """It says where its files are, or where they can be had."""
    return row.path is not None or row.hub_id is not None


def row_of(name: str, settings: ModelSettings, event: ModelEvent, found: ModelOnDisk | None) -> ModelRow:
    """A row for a model that was served."""
    hub_id = settings.path if HUB_ID.fullmatch(settings.path) else None
    row = ModelRow(
        name=name,
        hub_id=hub_id,
        status=event.state.value,
        error_message=event.error_message,
        aliases=tuple(alias for alias in settings.aliases if is_name(alias)),
    )
    if found is None:
        return row
    return ModelRow(
        name=name,
        path=str(found.path.absolute()),
        hub_id=hub_id,
        type=found.kind,
        quantisation=found.quantisation,
        weight_bytes=found.weight_bytes,
        parameters=found.parameters,
        context_length=found.context_length,
        architecture=found.architecture,
        status=row.status,
        error_message=row.error_message,
        aliases=row.aliases,
        metadata={KV_BYTES: found.kv_bytes_per_token, STEP_BYTES: found.step_bytes},
    )
