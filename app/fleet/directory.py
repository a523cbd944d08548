"""Resolves models' names: configured models, and models found on this machine when they are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from anyio import to_thread

from mlx_server.app.catalog.errors import ModelNotFound
from mlx_server.app.catalog.served_type import path_of, resolve
from mlx_server.app.config import names
from mlx_server.app.config.settings import ModelSettings, ModelType, Settings
from mlx_server.app.deployment.deployment import SHUTTING_DOWN, Deployment
from mlx_server.app.fleet.catalogue import Catalogue, ModelEntry
from mlx_server.app.fleet.lifecycle import Lifecycle
from mlx_server.app.fleet.registry_sync import RegistrySync
from mlx_server.queue.errors import QueueClosed
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import FailureKind

SEVERAL = "this server has several models, name one: {}."
NONE = (
    "this server has no model: install one with POST /v1/models/install, or start it with --model-path or --models-dir."
)
"""What to do where a request names no model."""

Make = Callable[[ModelSettings, ModelType], Lifecycle]


class Directory:
    """The lifecycles by their models' names. `make` makes one for a model that is named for the first time."""

    def __init__(self, settings: Settings, registry_sync: RegistrySync | None, make: Make) -> None:
        self.settings = settings
        self.catalogue = Catalogue(settings)
        self.lifecycles: dict[str, Lifecycle] = {}
        self.closing = False
        """No model is added any more."""
        self._installed: set[str] = set()
        self._registry_sync = registry_sync
        self._make = make

    @property
    def deployments(self) -> Sequence[Deployment]:
        """Deployments of configured models, and of models that have been named since."""
        return [lifecycle.deployment for lifecycle in self.lifecycles.values()]

    def apply_settings(self, settings: Settings) -> None:
        """Replace the settings."""
        self.settings, self.catalogue = settings, Catalogue(settings)
        for deployment in self.deployments:
            deployment.server = settings
        if self._registry_sync is not None:
            self._registry_sync.defaults = settings.defaults

    def add_installed(self, name: str) -> None:
        """A model was installed in the registry for this server: it may be named, even beside an only model."""
        self._installed.add(name)

    async def available(self) -> Sequence[ModelEntry]:
        """All models that may be named; those that are configured first.

        Beside an only model, these are the ones that this server has loaded or installed. What failed with another
        server is not among them, nor what is a configured model's by another name.
        """
        found = await self._found()
        return await to_thread.run_sync(without_duplicates, found, self._always_listed)

    async def manageable(self) -> Sequence[ModelEntry]:
        """All models that an operator may look after: also those of the registry that requests don't reach."""
        return first_of_each((*await self._found(), *(self._registry_sync.available if self._registry_sync else ())))

    def drop(self, name: str) -> None:
        """Forget a deleted model."""
        self.lifecycles.pop(name, None)
        self._installed.discard(name)

    def find(self, name: str) -> Lifecycle | None:
        """By a name or an alias, of those that have been named already."""
        model = self.catalogue.configured.get(name)
        return self.lifecycles.get(model.public_name if model else name)

    def known(self, name: str | None) -> Lifecycle | None:
        """The model that a request means, if it has been named already by the same name."""
        meant = self._meant(name)
        return None if meant is None else self.find(meant)

    async def named(self, name: str | None) -> Lifecycle:
        """The model that a request means. Raises InvalidRequest, and what `find_or_add` raises."""
        if (meant := self._meant(name)) is not None:
            return await self.find_or_add(meant)
        listed = names.listed({one.name: one for one in await self.available()})
        raise InvalidRequest(f"`model`: {SEVERAL.format(listed) if listed else NONE}", "model")

    def _meant(self, name: str | None) -> str | None:
        """What a model is called that a request names so, or not at all; None where it has to name one."""
        selects = self.settings.sole is None or name in self._installed
        if name is not None and (selects or self.find(name) is not None):
            return name
        return self.settings.models[0].public_name if len(self.settings.models) == 1 else None

    async def find_or_add(self, name: str) -> Lifecycle:
        """The model of this name, wherever it is found.

        Raises ModelNotFound, NotServable, QueueClosed, or HubError for one that would have to be downloaded.
        """
        if (lifecycle := self.find(name)) is not None:
            return lifecycle
        if self.closing:
            raise QueueClosed(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)
        if (model := await self._known(name)) is None:
            model = await to_thread.run_sync(self.catalogue.find, name)
        model_type = await to_thread.run_sync(resolve, model, self.settings.hub)
        return self.lifecycles.get(model.public_name) or self._make(model, model_type)

    async def deletable(self, name: str) -> ModelSettings:
        """The model of this name, whether or not it can be served.

        Raises ModelNotFound, also for one that is nowhere but on the hub.
        """
        if (model := await self._known(name)) is None:
            model = await to_thread.run_sync(self.catalogue.find, name)
            if await to_thread.run_sync(path_of, model) is None:
                raise ModelNotFound(name)
        return model

    async def _known(self, name: str) -> ModelSettings | None:
        """A model that nobody has to look for."""
        if (lifecycle := self.find(name)) is not None:
            return lifecycle.deployment.settings
        registered = await self._registry_sync.look_up(name) if self._registry_sync is not None else None
        return self.catalogue.configured.get(name) or registered

    async def _found(self) -> list[ModelEntry]:
        on_disk = await to_thread.run_sync(lambda: list(self.catalogue.on_disk()))
        return first_of_each((*self._deployed(), *self._usable(), *on_disk))

    def _always_listed(self, model: ModelEntry) -> bool:
        """It is listed whatever else there is: it was named, or somebody gave it its name."""
        return model.name in self.lifecycles or model.name in self._installed

    def _deployed(self) -> Iterator[ModelEntry]:
        for one in self.deployments:
            yield ModelEntry(
                one.name, one.settings, "configured" if one.name in self.catalogue.configured else "folder"
            )

    def _usable(self) -> Iterator[ModelEntry]:
        for one in self._registry_sync.available if self._registry_sync else ():
            if one.name in self._installed if self.settings.sole else not one.failed:
                yield one


def first_of_each(models: Iterable[ModelEntry]) -> list[ModelEntry]:
    """Each name once, as it came first."""
    found: dict[str, ModelEntry] = {}
    for one in models:
        found.setdefault(one.name, one)
    return list(found.values())


def without_duplicates(models: Sequence[ModelEntry], always_listed: Callable[[ModelEntry], bool]) -> list[ModelEntry]:
    """Those that lie elsewhere than the configured ones, or are to stay. Blocks."""
    configured = {location_of(one) for one in models if one.source == "configured"} - {None}
    return [one for one in models if always_listed(one) or location_of(one) not in configured]


def location_of(model: ModelEntry) -> Path | None:
    """Where a model's files are, links resolved; None if they are not on this machine."""
    folder = path_of(model.settings)
    return None if folder is None else folder.resolve()
