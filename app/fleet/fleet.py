"""All models of the server: finds the one that a request names, and loads and unloads them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from mlx_server.app.catalog.delete_files import conversions, deletable, delete, needed_by
from mlx_server.app.catalog.errors import FleetError, ModelConfigured, ModelNotFound, ModelNotLoaded
from mlx_server.app.catalog.served_type import configured_type, path_of
from mlx_server.app.config.config_file import ConfigError
from mlx_server.app.config.settings import ModelSettings, ModelType, Settings
from mlx_server.app.deployment.deployment import CANNOT_BE_SERVED, Deployment, Place
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.deployment.observer import Observer
from mlx_server.app.deployment.performance import Tuning
from mlx_server.app.fleet.catalogue import Catalogue, ModelEntry
from mlx_server.app.fleet.directory import Directory
from mlx_server.app.fleet.events import ModelEvent, Watcher, Watchers
from mlx_server.app.fleet.ledger import Ledger
from mlx_server.app.fleet.lifecycle import SERVED, Lifecycle
from mlx_server.app.fleet.load_gate import LoadGate
from mlx_server.app.fleet.load_order import WaitingLoad
from mlx_server.app.fleet.maintenance import Maintenance
from mlx_server.app.fleet.registry_sync import RegistrySync
from mlx_server.app.fleet.reload import ReloadReport, as_started, compare
from mlx_server.app.fleet.standby import Standby
from mlx_server.app.registry.registry import Registry
from mlx_server.app.tasks import Tasks
from mlx_server.queue.errors import QueueClosed
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.messages import FailureKind
from mlx_server.workers.cluster.starts import Cluster
from mlx_server.workers.hub.errors import HubError
from mlx_server.workers.parent.local import LocalStarts
from mlx_server.workers.parent.starts import WorkerStarts

Observe = Callable[[str, ModelType], Observer]
"""Makes the observer of a model, by its name and type."""

Clear = Callable[[str, Sequence[Path]], Awaitable[None]]
"""Ends what would bring a model back, or writes where it lies: by its name, and the files and folders that are about to
be deleted."""

log = logging.getLogger(__name__)


class Fleet:
    """All deployments by their models' names, and their loading and unloading."""

    def __init__(
        self,
        settings: Settings,
        observe: Observe | None = None,
        reread: Callable[[], Settings] | None = None,
        registry: Registry | None = None,
        starts: WorkerStarts | None = None,
    ) -> None:
        starts = starts or WorkerStarts()
        self._cluster = None if settings.cluster is None else Cluster(settings.cluster)
        self._place: Place = self._cluster.replica if self._cluster else lambda *_: LocalStarts(starts)
        self._reread = reread
        self._registry_sync = RegistrySync(registry, settings.defaults) if registry is not None else None
        self._directory = Directory(settings, self._registry_sync, self._add)
        self._retiring: dict[Lifecycle, asyncio.Task[None]] = {}
        self._reloading = asyncio.Lock()
        self.start_error = asyncio.Event()
        """Set when the only model could not be loaded at the start."""
        self.start_error_message = ""
        self.tuning = Tuning()
        self._observe = observe
        self._gate = LoadGate(settings, self._directory.lifecycles)
        self.standby = Standby(starts, self._gate.ledger, self._directory, self.tuning)
        self._watchers = Watchers()
        self._tasks = Tasks("work of the fleet")
        self._running = False
        self._starting = bool(settings.models)
        for model in settings.models:
            self._add(model, configured_type(model, settings.hub))

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._directory.settings

    @property
    def deployments(self) -> Sequence[Deployment]:
        """Deployments of configured models, and of models that have been named since."""
        return self._directory.deployments

    @property
    def ledger(self) -> Ledger:
        """The account of memory by model."""
        return self._gate.ledger

    @property
    def waiting_loads(self) -> Sequence[WaitingLoad]:
        """Loads that wait for memory."""
        return self._gate.queue.waiting

    @property
    def ready(self) -> bool:
        """The loads of the start are over, work is taken, and not all models have failed or are started again."""
        if self._directory.closing or not self._running or self._starting:
            return False
        broken = (ModelState.FAILED, ModelState.RESTARTING)
        return not self._directory.lifecycles or any(deployment.state not in broken for deployment in self.deployments)

    @property
    def failed(self) -> bool:
        """All models were given up."""
        return bool(self._directory.lifecycles) and all(one.state is ModelState.FAILED for one in self.deployments)

    @property
    def status(self) -> str:
        """In a word, where there is no model to ask."""
        return "stopping" if self._directory.closing else "none"

    def find(self, name: str) -> Deployment | None:
        """The deployment of this name or alias, if there is one."""
        lifecycle = self._directory.find(name)
        return lifecycle.deployment if lifecycle else None

    def known(self, name: str | None) -> Deployment | None:
        """The deployment that a request of this name is for, as far as that is known without looking for it."""
        lifecycle = self._directory.known(name)
        return lifecycle.deployment if lifecycle else None

    async def available(self) -> Sequence[ModelEntry]:
        """All models that may be named; those that are configured first."""
        return await self._directory.available()

    async def manageable(self) -> Sequence[ModelEntry]:
        """All models that an operator may look after, those that may be named first."""
        return await self._directory.manageable()

    def add_installed(self, name: str) -> None:
        """A model was installed for this server: requests may name it from now on."""
        self._directory.add_installed(name)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Subscribe to the events of all models; returns a function that unsubscribes."""
        return self._watchers.add(callback)

    async def deployment_of(self, name: str | None) -> Deployment:
        """The deployment that a request of this name is for, without having it loaded.

        Raises InvalidRequest, ModelNotFound, NotServable, HubError or QueueClosed.
        """
        return (await self._directory.named(name)).deployment

    async def choose(self, name: str | None) -> Deployment:
        """The deployment for a request; if need be its load is begun, and not awaited.

        Raises InvalidRequest, ModelNotFound, ModelNotLoaded, NotServable, or QueueClosed soon after it has failed.
        """
        lifecycle = await self._directory.named(name)
        deployment = lifecycle.deployment
        if self._running and deployment.state not in SERVED and not self._directory.closing:
            if (seconds := lifecycle.backoff_s) and deployment.error_message:
                log.debug("%s may be tried again in %.0f s", deployment.name, seconds)
                raise QueueClosed(FailureKind.UNAVAILABLE, f"{CANNOT_BE_SERVED}: {deployment.error_message}")
            if not lifecycle.moving or deployment.state is ModelState.UNLOADING:
                if not self._may_load(deployment):
                    raise ModelNotLoaded(deployment.name)
                lifecycle.on_demand |= not deployment.awaited
                lifecycle.request_load()
        deployment.used()
        if self._registry_sync is not None:
            self._registry_sync.used(deployment.name)
        if self._running:
            self._gate.seen(deployment.name)
        return deployment

    async def has_spare(self, name: str, rest_s: float) -> bool:
        """Whether work that can wait may be sent to a model: it is loaded or about to be, or requests may have it
        loaded and there is memory for it, and none goes for it that is pinned or was used in the last `rest_s` seconds.

        True also of what is no model, or can't be one: whoever names it is told why.
        """
        try:
            lifecycle = await self._directory.named(name)
        except (FleetError, HubError, InvalidRequest, QueueClosed):
            return True
        deployment = lifecycle.deployment
        if deployment.state in SERVED or deployment.public_state is ModelState.LOADING:
            return True
        return self._may_load(deployment) and await self._gate.has_spare(deployment, rest_s)

    def _may_load(self, deployment: Deployment) -> bool:
        """Whether a request may have a model loaded that is not."""
        return self.settings.auto_load or deployment.awaited

    async def load(self, name: str, *, priority: int = 0, force_reload: bool = False) -> Deployment:
        """Load a model and wait until it takes work. Raises FleetError."""
        lifecycle = await self._directory.find_or_add(name)
        if lifecycle.deployment.state not in SERVED:
            lifecycle.on_demand = True
        await lifecycle.load(priority, reload=force_reload)
        return lifecycle.deployment

    async def pin(self, name: str, *, pinned: bool) -> Deployment:
        """Whether a model stays loaded while others want its memory, from now on. Raises FleetError or QueueClosed."""
        deployment = (await self._directory.find_or_add(name)).deployment
        deployment.settings = replace(deployment.settings, pinned=pinned)
        return deployment

    async def unload(self, name: str, *, force: bool = False) -> Deployment:
        """End a model's workers after what runs, or at once with `force`. Raises ModelNotFound."""
        lifecycle = self._directory.find(name)
        if lifecycle is None:
            raise ModelNotFound(name)
        await lifecycle.unload(force=force)
        return lifecycle.deployment

    def check_deletable(self, name: str) -> None:
        """Raises ModelConfigured for the name or alias of a model that the server is told to serve."""
        if (model := self._directory.catalogue.configured.get(name)) is not None:
            raise ModelConfigured(model.public_name, self.settings.config)

    async def delete(self, name: str, *, remove_files: bool = True, clear: Clear | None = None) -> bool:
        """Unload and forget a model, whether or not it can be served; True if its files, which lie in a folder of ours
        and are no other model's, were removed too. What was made of a .gguf file goes in any case.

        `clear` is awaited before it is forgotten. Raises ModelNotFound, and what `clear` raises.
        """
        model = await self._directory.deletable(name)
        await self._end(model.public_name)
        path = await to_thread.run_sync(path_of, model)
        goes: list[Path] = []
        made: list[Path] = []
        if remove_files and path is not None:
            goes, made = await to_thread.run_sync(self._files_of, path, self._others(model.public_name))
        if clear is not None:
            await clear(model.public_name, goes)
        if self._registry_sync is not None:
            await self._registry_sync.forget(model.public_name)
        await to_thread.run_sync(delete, [*goes, *made])
        return bool(goes)

    async def _end(self, name: str) -> None:
        """Unload a model at once and take it out."""
        lifecycle = self._directory.lifecycles.get(name)
        if lifecycle is not None:
            lifecycle.deployment.retire()
            await lifecycle.unload(force=True)
        self._directory.drop(name)
        if lifecycle is not None:
            await lifecycle.close()

    def _others(self, name: str) -> list[ModelSettings]:
        """All models that are served, and those of the registry but the one of a name."""
        kept = self._registry_sync.available if self._registry_sync is not None else ()
        return [*(one.settings for one in self.deployments), *(one.settings for one in kept if one.name != name)]

    def _files_of(self, path: Path, others: list[ModelSettings]) -> tuple[list[Path], list[Path]]:
        """What goes with the model at `path`, and what was made of it. Blocks."""
        needed = [needed for other in others for needed in needed_by(other)]
        return deletable(path, needed, self.settings.models_dir), conversions(path, needed, self.settings.cache_dir)

    def apply_settings(self, settings: Settings) -> None:
        """Replace the settings; the configured models must be the same."""
        self._directory.apply_settings(settings)
        self._gate.apply_settings(settings)

    def set_priority(self, name: str, priority: int) -> None:
        """How soon a waiting load gets its turn. Raises ModelNotFound."""
        deployment = self.find(name)
        if deployment is None:
            raise ModelNotFound(name)
        self._gate.queue.set_priority(deployment.name, priority)

    async def reload(self, *, host: str | None = None, port: int | None = None) -> ReloadReport:
        """Read the configuration again: new models are loaded, others drained and unloaded, or loaded anew.

        One that can't be used changes nothing: the report and the log say why. `host` and `port` win over it. Of
        several at once each is compared with the one before.
        """
        async with self._reloading:
            return await self._reload(host, port)

    async def _reload(self, host: str | None, port: int | None) -> ReloadReport:
        try:
            settings = await to_thread.run_sync(self._reread) if self._reread else self.settings
            port = settings.port if port is None else port
            settings = replace(settings, host=host or settings.host, port=port)
            settings, next_start = as_started(self.settings, settings)
            catalogue = Catalogue(settings)
            report = replace(compare(self.settings.models, settings.models), next_start=next_start)
            new = [catalogue.configured[name] for name in (*report.changed, *report.added)]
            types = [await to_thread.run_sync(configured_type, model, settings.hub) for model in new]
        except (ConfigError, FleetError, ValueError) as error:
            log.error("the configuration stays as it was: %s", error)
            return ReloadReport(error=f"The server goes on as it was: {error}")
        self.apply_settings(settings)
        for name in report.removed:
            if (lifecycle := self._directory.lifecycles.pop(name, None)) is not None:
                self._retire(lifecycle)
        for model, model_type in zip(new, types, strict=True):
            lifecycle = self._replace(model, model_type)
            if self._running:
                self._tasks.spawn(self._load_at_start(lifecycle))
        log.info("the configuration was read again: %s", report.summary())
        return report

    def start(self) -> None:
        """Load what is configured, in order, the pinned ones first, as far as it fits; returns at once."""
        self._running = True
        for model in self.settings.models:
            self._directory.lifecycles[model.public_name].deployment.awaited = True
        self._tasks.spawn(
            Maintenance(self._directory, self._gate, self.standby, self._registry_sync, self._tasks).run()
        )
        self._tasks.spawn(self._load_configured())

    async def drain(self) -> None:
        """Take no more work, and end running requests after the drain time."""
        self._directory.closing = True
        await asyncio.gather(*(lifecycle.deployment.drain() for lifecycle in self._everyone()))

    def abort(self) -> None:
        """Take no more work, and end all requests. Idempotent."""
        self._directory.closing = True
        for lifecycle in self._everyone():
            lifecycle.deployment.abort()

    async def stop(self) -> None:
        """End all requests and worker processes. Idempotent."""
        self.abort()
        self._gate.queue.close()
        await self._tasks.cancel()
        await asyncio.gather(*(lifecycle.close() for lifecycle in self._everyone()))
        self.standby.close()
        if self._cluster is not None:
            await self._cluster.close()
        if self._running and self._registry_sync is not None:
            await self._registry_sync.refresh()
        self._running = False

    def _everyone(self) -> list[Lifecycle]:
        return [*self._directory.lifecycles.values(), *self._retiring]

    def _replace(self, model: ModelSettings, model_type: ModelType) -> Lifecycle:
        """Put a model in the place of the one of its name, if there is one, which is loaded once that is gone."""
        before = self._directory.lifecycles.pop(model.public_name, None)
        if before is None:
            return self._add(model, model_type)
        self._retire(before)
        return self._add(model, model_type, before.deployment)

    def _retire(self, lifecycle: Lifecycle) -> None:
        """Take a model out: what it was asked for is still answered, then it is unloaded."""

        async def retire() -> None:
            await lifecycle.deployment.queue.idle.wait()
            await lifecycle.deployment.queries.idle.wait()
            lifecycle.deployment.retire()
            await lifecycle.unload()
            await lifecycle.close()
            if lifecycle.after is not None:  # the one before it is still there
                await asyncio.wait([lifecycle.after])
            del self._retiring[lifecycle]

        self._retiring[lifecycle] = self._tasks.spawn(retire())

    def _leaving(self, name: str) -> asyncio.Task[None] | None:
        """Ends when nothing is left of those that had this name before; None if nothing is."""
        return next((task for one, task in reversed(self._retiring.items()) if one.deployment.name == name), None)

    def _add(self, model: ModelSettings, model_type: ModelType, before: Deployment | None = None) -> Lifecycle:
        name = model.public_name
        observer = self._observe(name, model_type) if self._observe else None
        deployment = Deployment(
            model, model_type, self.settings, observer, self._moved, self.tuning, before, self._place
        )
        lifecycle = self._directory.lifecycles[name] = Lifecycle(deployment, self._gate)
        lifecycle.after = self._leaving(name)
        return lifecycle

    def _moved(self, deployment: Deployment, before: ModelState) -> None:
        """A deployment says that it has moved, or how far it is."""
        name, state = deployment.name, deployment.state
        lifecycle = self._directory.lifecycles.get(name)
        if state is not before:
            log.info("%s: %s", name, state.value)
            self._gate.seen(name)
            if lifecycle is not None and lifecycle.deployment is deployment and state is ModelState.FAILED:
                lifecycle.given_up()
                self._gate.release(deployment)
        loading = deployment.loading_now if state is before else None
        event = ModelEvent(name, before, state, deployment.error_message, loading)
        if self._registry_sync is not None and state is not before:
            self._registry_sync.moved(deployment.settings, event)
        self._watchers.notify(event)

    async def _load_configured(self) -> None:
        try:
            if self._registry_sync is not None:
                await self._registry_sync.refresh()
            configured = sorted(self.settings.models, key=lambda model: not model.pinned)
            for model in configured:
                # The configuration may have been read again, and be without it.
                if (lifecycle := self._directory.lifecycles.get(model.public_name)) is not None:
                    await self._load_one_of(len(configured), lifecycle)
        finally:
            self._starting = False
            for lifecycle in self._directory.lifecycles.values():
                lifecycle.deployment.awaited &= lifecycle.moving

    async def _load_one_of(self, models: int, lifecycle: Lifecycle) -> None:
        name = lifecycle.deployment.name
        required_bytes = await self._gate.required_bytes(lifecycle.deployment)
        if models > 1 and not self._gate.queue.fits_now(name, required_bytes):
            log.warning("%s is not loaded yet: there is no room beside the others", name)
            lifecycle.deployment.awaited = lifecycle.moving
        else:
            await self._load_at_start(lifecycle)

    async def _load_at_start(self, lifecycle: Lifecycle) -> None:
        name = lifecycle.deployment.name
        try:
            await lifecycle.load()
        except FleetError as error:
            if self._directory.lifecycles.get(name) is not lifecycle:
                return  # another has its place by now, or none
            if self.settings.sole is not None:
                self.start_error_message = str(error)
                self.start_error.set()
            else:
                log.error("%s could not be loaded: %s", name, error)
