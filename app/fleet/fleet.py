"""All models of the server: finds the one that a request names, and loads and unloads them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from anyio import to_thread

from mlx_server.app.config_file import ConfigError
from mlx_server.app.deployment import CANNOT_BE_SERVED, SHUTTING_DOWN, Deployment
from mlx_server.app.fleet import idle, names
from mlx_server.app.fleet.catalogue import Catalogue, Known
from mlx_server.app.fleet.errors import FleetError, ModelNotFound, ModelNotLoaded
from mlx_server.app.fleet.events import ModelEvent, Watcher, Watchers
from mlx_server.app.fleet.keeper import SERVED, Keeper
from mlx_server.app.fleet.kinds import read, type_of
from mlx_server.app.fleet.ledger import Ledger
from mlx_server.app.fleet.load_order import WaitingLoad
from mlx_server.app.fleet.model_files import remove_files as remove_model_files
from mlx_server.app.fleet.registered import Registered
from mlx_server.app.fleet.reload import ReloadReport, compare
from mlx_server.app.fleet.room import Room
from mlx_server.app.model_state import ModelState
from mlx_server.app.observer import Observer
from mlx_server.app.performance import Tuning
from mlx_server.app.registry.registry import Registry
from mlx_server.app.settings import ModelSettings, ModelType, Settings
from mlx_server.queue.errors import QueueClosed
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.messages import FailureKind

Observe = Callable[[str, ModelType], Observer]
"""Makes the observer of a model, by its name and type."""

LOOK_S = 0.5
"""How often it is looked which models are idle."""

MEASURE_EVERY = 10
"""With every so many looks their memory is measured."""

log = logging.getLogger(__name__)


class Fleet:
    """The deployments by their models' names, and what moves them."""

    def __init__(
        self,
        settings: Settings,
        observe: Observe | None = None,
        reread: Callable[[], Settings] | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.settings = settings
        self._reread = reread
        self._registered = Registered(registry, settings.defaults) if registry is not None else None
        self._retiring: set[Keeper] = set()
        self.catalogue = Catalogue(settings)
        self.start_error = asyncio.Event()
        """Set when the only model could not be loaded at the start."""
        self.start_error_message = ""
        self.tuning = Tuning()
        self._observe = observe
        self._keepers: dict[str, Keeper] = {}
        self._room = Room(settings, self._keepers)
        self._watchers = Watchers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = self._closing = False
        self._starting = {model.public_name for model in settings.models}
        for model in settings.models:
            self._add(model, type_of(model, None if model.type else read(model)))

    # --- what readers ask ---

    @property
    def deployments(self) -> Sequence[Deployment]:
        """Those that are configured, and those that have been named since."""
        return [keeper.deployment for keeper in self._keepers.values()]

    @property
    def ledger(self) -> Ledger:
        """Who holds how much memory."""
        return self._room.ledger

    @property
    def line(self) -> Sequence[WaitingLoad]:
        """Loads that wait for room."""
        return self._room.line.waiting

    @property
    def ready(self) -> bool:
        """The loads of the start are over, work is taken, and not all models have failed or are started again."""
        if self._closing or not self._running or self._starting:
            return False
        broken = (ModelState.FAILED, ModelState.RESTARTING)
        return not self._keepers or any(deployment.state not in broken for deployment in self.deployments)

    @property
    def failed(self) -> bool:
        """All models were given up."""
        return bool(self._keepers) and all(one.state is ModelState.FAILED for one in self.deployments)

    @property
    def status(self) -> str:
        """In a word, where there is no model to ask."""
        return "stopping" if self._closing else "ready"

    def find(self, name: str) -> Deployment | None:
        """The deployment of this name or alias, if there is one."""
        keeper = self._keeper(name)
        return keeper.deployment if keeper else None

    async def known(self) -> Sequence[Known]:
        """All models that may be named; those that are configured first."""
        found = {
            one.name: Known(one.name, one.settings, "configured" if one.name in self.catalogue.configured else "folder")
            for one in self.deployments
        }
        for one in self._registered.known if self._registered else ():
            found.setdefault(one.name, one)
        for one in await to_thread.run_sync(lambda: list(self.catalogue.on_disk())):
            found.setdefault(one.name, one)
        return list(found.values())

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Tell of all that models do; the function that is returned ends that."""
        return self._watchers.add(callback)

    # --- what requests and operators do ---

    async def choose(self, name: str | None) -> Deployment:
        """The deployment that a request is for; it is loaded if need be, which is not waited for.

        Raises InvalidRequest, ModelNotFound, ModelNotLoaded, NotServable, or QueueClosed soon after it has failed.
        """
        keeper = await self._named(name)
        deployment = keeper.deployment
        if self._running and deployment.state not in SERVED and not self._closing:
            if (seconds := keeper.resting_s) and deployment.error_message:
                log.debug("%s may be tried again in %.0f s", deployment.name, seconds)
                raise QueueClosed(FailureKind.UNAVAILABLE, f"{CANNOT_BE_SERVED}: {deployment.error_message}")
            if not keeper.moving or deployment.state is ModelState.UNLOADING:
                if not self.settings.auto_load and not deployment.awaited:
                    raise ModelNotLoaded(deployment.name)
                keeper.on_demand = True
                keeper.want()
        deployment.used()
        if self._registered is not None:
            self._registered.used(deployment.name)
        if self._running:
            self._room.seen(deployment.name)
        return deployment

    async def load(self, name: str, *, priority: int = 0, force_reload: bool = False) -> Deployment:
        """Load a model and wait until it takes work. Raises FleetError."""
        keeper = await self._find_or_add(name)
        if keeper.deployment.state not in SERVED:
            keeper.on_demand = True
        await asyncio.shield(keeper.want(priority, reload=force_reload))
        return keeper.deployment

    async def unload(self, name: str, *, force: bool = False) -> Deployment:
        """End a model's workers after what runs, or at once with `force`. Raises ModelNotFound."""
        keeper = self._keeper(name)
        if keeper is None:
            raise ModelNotFound(name)
        await keeper.unload(force=force)
        return keeper.deployment

    async def delete(self, name: str, *, remove_files: bool = True) -> bool:
        """Unload and forget a model; True if its files, which lie in a folder of ours, were removed too.

        Raises ModelNotFound.
        """
        keeper = await self._find_or_add(name)
        deployment = keeper.deployment
        await keeper.unload(force=True)
        self._keepers.pop(deployment.name, None)
        await keeper.close()
        if self._registered is not None:
            await self._registered.forget(deployment.name)
        return remove_files and await to_thread.run_sync(remove_model_files, deployment.settings, self.settings)

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on; the models that are configured must be the same."""
        self.settings, self.catalogue = settings, Catalogue(settings)
        self._room.adopt(settings)
        if self._registered is not None:
            self._registered.defaults = settings.defaults

    def set_priority(self, name: str, priority: int) -> None:
        """How soon a waiting load gets its turn. Raises ModelNotFound."""
        deployment = self.find(name)
        if deployment is None:
            raise ModelNotFound(name)
        self._room.line.set_priority(deployment.name, priority)

    async def reload(self, *, host: str | None = None, port: int | None = None) -> ReloadReport:
        """Read the configuration again: new models are loaded, others drained and unloaded, or loaded anew.

        One that can't be used changes nothing: the report and the log say why. `host` and `port` win over it.
        """
        try:
            settings = await to_thread.run_sync(self._reread) if self._reread else self.settings
            settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
            catalogue = Catalogue(settings)
            report = compare(self.settings.models, settings.models)
            new = [catalogue.configured[name] for name in (*report.changed, *report.added)]
            types = [type_of(model, None if model.type else read(model)) for model in new]
        except (ConfigError, FleetError, ValueError) as error:
            log.error("the configuration stays as it was: %s", error)
            return ReloadReport(error=str(error))
        self.adopt(settings)
        for name in report.removed:
            self._retire(name)
        for model, model_type in zip(new, types, strict=True):
            retired = self._retire(model.public_name)
            keeper = self._add(model, model_type, retired)
            if self._running:
                self._spawn(self._load_at_start(keeper))
        log.info("the configuration was read again: %s", report)
        return report

    # --- life ---

    def start(self) -> None:
        """Load what is configured, in order, the pinned ones first, as far as it fits; returns at once."""
        self._running = True
        self._spawn(self._look())
        self._spawn(self._load_configured())

    async def drain(self) -> None:
        """Take no more work, give what runs its drain time, then end it."""
        self._closing = True
        await asyncio.gather(*(keeper.deployment.drain() for keeper in self._everyone()))

    def abort(self) -> None:
        """Take no more work, and end what lives. Idempotent."""
        self._closing = True
        for keeper in self._everyone():
            keeper.deployment.abort()

    async def stop(self) -> None:
        """End everything that lives and all worker processes. Idempotent."""
        self.abort()
        self._room.line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(keeper.close() for keeper in self._everyone()))
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._running and self._registered is not None:
            await self._registered.refresh()
        self._running = False

    # --- how it works ---

    def _everyone(self) -> list[Keeper]:
        return [*self._keepers.values(), *self._retiring]

    def _keeper(self, name: str) -> Keeper | None:
        model = self.catalogue.configured.get(name)
        return self._keepers.get(model.public_name if model else name)

    async def _named(self, name: str | None) -> Keeper:
        """The model that a request means."""
        if name is not None and (keeper := self._keeper(name)) is not None:
            return keeper
        sole = self.settings.sole
        if name is not None and self._registered is not None and self._registered.find(name) is not None:
            return await self._find_or_add(name)
        if sole is not None:
            return await self._find_or_add(sole.public_name)
        if name is not None:
            return await self._find_or_add(name)
        if len(self.settings.models) == 1:
            return await self._find_or_add(self.settings.models[0].public_name)
        listed = names.shown(self._keepers)
        raise InvalidRequest(
            f"`model`: this server has several models, name one{f': {listed}' if listed else ''}.", "model"
        )

    async def _find_or_add(self, name: str) -> Keeper:
        """The model of this name, wherever it is found. Raises ModelNotFound, NotServable or QueueClosed."""
        if (keeper := self._keeper(name)) is not None:
            return keeper
        if self._closing:
            raise QueueClosed(FailureKind.SHUTTING_DOWN, SHUTTING_DOWN)

        registered = await self._registered.look_up(name) if self._registered is not None else None

        def found() -> tuple[ModelSettings, ModelType]:
            model = self.catalogue.configured.get(name) or registered or self.catalogue.find(name)
            return model, type_of(model, None if model.type else read(model))

        model, model_type = await to_thread.run_sync(found)
        return self._keepers.get(model.public_name) or self._add(model, model_type)

    def _retire(self, name: str) -> asyncio.Task[None] | None:
        """Take a model out: what it was asked for is still answered, then it is unloaded."""
        keeper = self._keepers.pop(name, None)
        if keeper is None:
            return None
        self._retiring.add(keeper)

        async def retire() -> None:
            await keeper.deployment.queue.idle.wait()
            await keeper.deployment.asking.idle.wait()
            await keeper.unload()
            await keeper.close()
            self._retiring.discard(keeper)

        return self._spawn(retire())

    def _add(self, model: ModelSettings, model_type: ModelType, after: Awaitable[object] | None = None) -> Keeper:
        name = model.public_name
        observer = self._observe(name, model_type) if self._observe else None
        deployment = Deployment(model, model_type, self.settings, observer, self._moved, self.tuning)
        keeper = self._keepers[name] = Keeper(deployment, self._room, after)
        return keeper

    def _moved(self, deployment: Deployment, before: ModelState) -> None:
        """A deployment says that it has moved, or how far it is."""
        name, state = deployment.name, deployment.state
        keeper = self._keepers.get(name)
        if state is not before:
            log.info("%s: %s", name, state.value)
            self._room.seen(name)
            if keeper is not None and keeper.deployment is deployment and state is ModelState.FAILED:
                keeper.given_up()
                self._room.release(deployment)
        loading = deployment.loading_now if state is before else None
        event = ModelEvent(name, before, state, deployment.error_message, loading)
        if self._registered is not None and state is not before:
            self._registered.moved(deployment.settings, event)
        self._watchers.tell(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load_configured(self) -> None:
        if self._registered is not None:
            await self._registered.refresh()
        configured = sorted(self.settings.models, key=lambda model: not model.pinned)
        for model in configured:
            name = model.public_name
            keeper = self._keepers[name]
            need = await self._room.need_bytes(keeper.deployment)
            if len(configured) > 1 and not self._room.line.fits_now(name, need):
                log.warning("%s is not loaded yet: there is no room beside the others", name)
            else:
                await self._load_at_start(keeper)
            self._starting.discard(name)

    async def _load_at_start(self, keeper: Keeper) -> None:
        name = keeper.deployment.name
        try:
            await asyncio.shield(keeper.want())
        except FleetError as error:
            if self.settings.sole is not None:
                self.start_error_message = str(error)
                self.start_error.set()
            else:
                log.error("%s could not be loaded: %s", name, error)

    async def _look(self) -> None:
        """Again and again: whom nobody uses goes, who was left with requests is loaded."""
        for number in itertools.count(1):
            await asyncio.sleep(LOOK_S)
            now = asyncio.get_running_loop().time()
            keepers = list(self._keepers.values())
            for keeper in keepers:
                self._look_at(keeper)
            for name in idle.overdue(map(self._idler, keepers), now):
                self._spawn(self._keepers[name].unload(only_idle=True))
            if number % MEASURE_EVERY == 0:
                await self._room.measure()
                if self._registered is not None:
                    await self._registered.refresh()

    def _look_at(self, keeper: Keeper) -> None:
        deployment = keeper.deployment
        if not deployment.busy:
            return
        self._room.seen(deployment.name)
        if deployment.state is ModelState.UNLOADED and not keeper.moving and not self._closing:
            if self.settings.auto_load:
                keeper.want()
            else:
                deployment.refuse_waiting(FailureKind.UNAVAILABLE, str(ModelNotLoaded(deployment.name)))

    def _idler(self, keeper: Keeper) -> idle.Idler:
        deployment = keeper.deployment
        own, pinned = deployment.settings.idle_timeout_s, deployment.settings.pinned
        limit_s = idle.timeout_s(own, self.settings.idle_timeout_s, on_demand=keeper.on_demand, pinned=pinned)
        since = self._room.active_at.get(deployment.name, 0.0)
        loaded = deployment.state is ModelState.LOADED and not keeper.moving
        return idle.Idler(deployment.name, since, limit_s if loaded else 0.0)
