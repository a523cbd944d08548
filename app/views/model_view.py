"""What is known of a model by the fleet and the registry together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from anyio import to_thread
from starlette.requests import Request

from mlx_server.app.catalog.errors import ModelNotFound
from mlx_server.app.catalog.kinds import MLX_GUI_TYPES
from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.catalog.served_type import files_of
from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.catalogue import ModelEntry
from mlx_server.app.fleet.memory import serving_of
from mlx_server.app.fleet.memory_estimate import estimate_of, scripted_estimate
from mlx_server.app.http.services import services
from mlx_server.app.machine.device import Device
from mlx_server.app.machine.sizes import GIBIBYTE
from mlx_server.app.registry.rows import ModelRow, on_disk


def gigabytes(count: int | None) -> float | None:
    """Bytes for people."""
    return None if count is None else round(count / GIBIBYTE, 2)


@dataclass(frozen=True)
class ModelView:
    """A model that may be named; `row` is what the registry keeps of it, `deployment` what the fleet has."""

    name: str
    settings: ModelSettings
    deployment: Deployment | None
    row: ModelRow | None
    found: ModelOnDisk | None

    @property
    def type(self) -> str:
        """In MLX-GUI's words; text where nobody has looked yet."""
        if self.deployment is not None:
            return MLX_GUI_TYPES[self.deployment.type]
        if self.settings.type is not None:
            return MLX_GUI_TYPES[self.settings.type]
        return MLX_GUI_TYPES[self.found.kind.model_type if self.found else "lm"]

    @property
    def status(self) -> str:
        """The name of its state."""
        state = ModelState.UNLOADED
        if self.deployment is not None:
            state = self.deployment.public_state
        elif self.row is not None and self.row.status == ModelState.FAILED.value:
            state = ModelState.FAILED
        return str(state.value)

    @property
    def use_count(self) -> int:
        """Requests that have named it, those of former servers included."""
        now = self.deployment.use_count if self.deployment else 0
        return max(now, self.row.use_count if self.row else 0)

    @property
    def last_used_at(self) -> datetime | None:
        """When a request named it."""
        times = [one.last_used_at for one in (self.deployment, self.row) if one is not None]
        return max((time for time in times if time is not None), default=None)

    @property
    def error_message(self) -> str | None:
        """Why it failed."""
        if self.deployment is not None:
            return self.deployment.error_message
        return self.row.error_message if self.row else None

    @property
    def path(self) -> str | None:
        """Where its files are: its settings know best, as the registry's row may be of another model of that name."""
        path = Path(self.settings.path).expanduser()
        if path.exists():
            return str(path.absolute())
        return self.row.path if self.row is not None else None

    @property
    def size_bytes(self) -> int | None:
        """What its weights take in their files, or else in memory; None where nobody has looked yet."""
        if self.found is not None:
            return self.found.weight_bytes
        facts = self.deployment.facts if self.deployment else None
        return facts.parameter_bytes if facts else None

    def required_bytes(self, device: Device, limit_bytes: int | None) -> int | None:
        """What it needs when it is loaded; None where its files are not known."""
        if self.settings.type == "scripted":
            return scripted_estimate(self.settings.replicas).total
        if self.found is None:
            return None
        model_type = self.settings.type or self.found.kind.model_type
        return estimate_of(self.found, serving_of(self.settings, model_type), device, limit_bytes).total


async def all_views(request: Request) -> list[ModelView]:
    """All models that may be named. Raises sqlite3.Error."""
    fleet = services(request).fleet
    registry = services(request).registry
    rows = {row.name: row for row in await registry.models()}
    return [await make_view(entry, fleet.find(entry.name), rows.get(entry.name)) for entry in await fleet.available()]


async def find_view(request: Request, name: str) -> ModelView:
    """The model of this name or alias. Raises ModelNotFound or sqlite3.Error."""
    fleet = services(request).fleet
    registry = services(request).registry
    row = await registry.model(name)
    if (deployment := fleet.find(name)) is not None:
        entry = ModelEntry(deployment.name, deployment.settings, "configured")
        row = row if row is not None and row.name == deployment.name else await registry.model(deployment.name)
        return await make_view(entry, deployment, row)
    for entry in await fleet.manageable():
        if entry.name == name or name in entry.settings.aliases:
            return await make_view(entry, None, row)
    raise ModelNotFound(name)


async def make_view(entry: ModelEntry, deployment: Deployment | None, row: ModelRow | None) -> ModelView:
    """What the two say together, and the files of a model that nobody has looked at yet and that is not loaded."""
    found = entry.on_disk or (on_disk(row) if row is not None else None)
    if found is None and deployment is not None and deployment.facts is None:
        found = await to_thread.run_sync(files_of, deployment.settings)
    return ModelView(entry.name, entry.settings, deployment, row, found)
