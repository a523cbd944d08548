"""All models of the server: finds the one that a request names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mlx_server.app.deployment import Deployment, Observer
from mlx_server.app.fleet import names
from mlx_server.app.fleet.errors import ModelNotFound
from mlx_server.app.fleet.kinds import read, type_of
from mlx_server.app.settings import ModelSettings, ModelType, Settings
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.workers.supervisor import WorkerState

Observe = Callable[[str, ModelType], Observer]
"""Makes the observer of a model, by its name and type."""

HOW = "GET /v1/models lists those that may be named."


class Fleet:
    """The deployments by their models' names."""

    def __init__(self, settings: Settings, observe: Observe | None = None) -> None:
        self._settings = settings
        self._observe = observe
        self._configured = names.index(settings.models)
        self._deployments: dict[str, Deployment] = {}
        for model in settings.models:
            self._add(model)
        sole = self._deployments[settings.models[0].public_name] if len(settings.models) == 1 else None
        self.start_error = sole.start_error if sole else asyncio.Event()
        """Set when the only model could not be started."""
        self._sole = sole

    @property
    def deployments(self) -> Sequence[Deployment]:
        """Those that are configured, and those that have been loaded since."""
        return list(self._deployments.values())

    def find(self, name: str) -> Deployment | None:
        """The deployment of this name or alias."""
        model = self._configured.get(name)
        return self._deployments.get(model.public_name if model else name)

    @property
    def start_error_message(self) -> str:
        """Why the only model could not be started."""
        return self._sole.start_error_message if self._sole else ""

    @property
    def ready(self) -> bool:
        """A worker takes work."""
        return any(deployment.ready for deployment in self._deployments.values())

    @property
    def failed(self) -> bool:
        """All models were given up."""
        deployments = self._deployments.values()
        return bool(deployments) and all(one.worker.state is WorkerState.FAILED for one in deployments)

    @property
    def status(self) -> str:
        """In a word, where there is no model to ask."""
        return "ready"

    async def choose(self, name: str | None) -> Deployment:
        """The deployment that a request is for. Raises InvalidRequest or ModelNotFound."""
        if name is not None and (found := self.find(name)) is not None:
            return found
        if (sole := self._settings.sole) is not None:
            return self._deployments[sole.public_name]
        if name is None:
            listed = names.shown(self._deployments)
            raise InvalidRequest(f"`model`: several models are served; name one of {listed}.", "model")
        raise ModelNotFound(name, HOW)

    # --- life ---

    def start(self) -> None:
        """Load what is configured; returns at once."""
        for deployment in self._deployments.values():
            deployment.start()

    async def drain(self) -> None:
        """Take no more work, give what runs its drain time, then end it."""
        await asyncio.gather(*(deployment.drain() for deployment in self._deployments.values()))

    def abort(self) -> None:
        """Take no more work, and end what lives. Idempotent."""
        for deployment in self._deployments.values():
            deployment.abort()

    async def stop(self) -> None:
        """End everything that lives and all worker processes. Idempotent."""
        await asyncio.gather(*(deployment.stop() for deployment in self._deployments.values()))

    def _add(self, model: ModelSettings) -> Deployment:
        model_type = type_of(model, None if model.type else read(model))
        name = model.public_name
        observer = self._observe(name, model_type) if self._observe else None
        deployment = self._deployments[name] = Deployment(model, model_type, self._settings, observer)
        return deployment
