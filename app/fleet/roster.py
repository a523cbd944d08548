"""Whom a name means: the models that are configured, and those that are found on this machine when they are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from anyio import to_thread

from mlx_server.app.deployment import SHUTTING_DOWN, Deployment
from mlx_server.app.fleet import names
from mlx_server.app.fleet.catalogue import Catalogue, Known
from mlx_server.app.fleet.keeper import Keeper
from mlx_server.app.fleet.kinds import resolve
from mlx_server.app.fleet.registered import Registered
from mlx_server.app.settings import ModelSettings, ModelType, Settings
from mlx_server.queue.errors import QueueClosed
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.messages import FailureKind

Make = Callable[[ModelSettings, ModelType], Keeper]


class Roster:
    """The keepers by their models' names. `make` makes one for a model that is named for the first time."""

    def __init__(self, settings: Settings, registered: Registered | None, make: Make) -> None:
        self.settings = settings
        self.catalogue = Catalogue(settings)
        self.keepers: dict[str, Keeper] = {}
        self.closing = False
        """No model is added any more."""
        self._registered = registered
        self._make = make

    @property
    def deployments(self) -> Sequence[Deployment]:
        """Those that are configured, and those that have been named since."""
        return [keeper.deployment for keeper in self.keepers.values()]

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self.settings, self.catalogue = settings, Catalogue(settings)
        if self._registered is not None:
            self._registered.defaults = settings.defaults

    async def known(self) -> Sequence[Known]:
        """All models that may be named; those that are configured first."""
        found: dict[str, Known] = {}
        for one in (*self._deployed(), *(self._registered.known if self._registered else ())):
            found.setdefault(one.name, one)
        for one in await to_thread.run_sync(lambda: list(self.catalogue.on_disk())):
            found.setdefault(one.name, one)
        return list(found.values())

    def find(self, name: str) -> Keeper | None:
        """By a name or an alias, of those that have been named already."""
        model = self.catalogue.configured.get(name)
        return self.keepers.get(model.public_name if model else name)

    async def named(self, name: str | None) -> Keeper:
        """The model that a request means. Raises InvalidRequest, and what `find_or_add` raises."""
        if name is not None and (keeper := self.find(name)) is not None:
            return keeper
        sole = self.settings.sole
        registered = name is not None and self._registered is not None and self._registered.find(name) is not None
        if name is not None and (registered or sole is None):
            return await self.find_or_add(name)
        if sole is not None:
            return await self.find_or_add(sole.public_name)
        if len(self.settings.models) == 1:
            return await self.find_or_add(self.settings.models[0].public_name)
        listed = names.shown(self.keepers)
        raise InvalidRequest(
            f"`model`: this server has several models, name one{f': {listed}' if listed else ''}.", "model"
        )

    async def find_or_add(self, name: str) -> Keeper:
        """The model of this name, wherever it is found.

        Raises ModelNotFound, NotServable, QueueClosed, or HubError for one that would have to be downloaded.
        """
        if (keeper := self.find(name)) is not None:
            return keeper
        if self.closing:
            raise QueueClosed(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)
        registered = await self._registered.look_up(name) if self._registered is not None else None

        def found() -> tuple[ModelSettings, ModelType]:
            model = self.catalogue.configured.get(name) or registered or self.catalogue.find(name)
            return model, resolve(model, self.settings.hub)

        model, model_type = await to_thread.run_sync(found)
        return self.keepers.get(model.public_name) or self._make(model, model_type)

    def _deployed(self) -> Iterator[Known]:
        for one in self.deployments:
            yield Known(one.name, one.settings, "configured" if one.name in self.catalogue.configured else "folder")
