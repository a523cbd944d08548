"""`/api/hardware`: what the machine is and does, and how much of it models take."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.performance import Mode, Tuning
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.machine.info import hardware_info
from mlx_server.app.middleware.operator import operator_only
from mlx_server.app.registry.registry import Registry
from mlx_server.app.routes.generation import read_request
from mlx_server.schemas.impetus.performance import ModeAnswer, Tuned, TunedModel, mode_decoder
from mlx_server.schemas.internal.messages import Load

MODE_KEY = "performance_mode"
LOADED = ("prefill_step_size", "prefix_cache_bytes", "prefix_share", "feature_cache_bytes", "threads")
"""What a mode changes, and workers are told when they are started."""


async def info(request: Request) -> Response:
    """What the machine is."""
    fleet = services(request).fleet
    devices = [one.facts.device for one in fleet.deployments if one.facts is not None]
    return json_answer(await to_thread.run_sync(hardware_info, devices))


async def metrics(request: Request) -> Response:
    """What the machine does now."""
    meter = services(request).meter
    return json_answer(await meter.metrics())


@operator_only
async def performance_mode(request: Request) -> Response:
    """Serve in another mode."""
    fleet = services(request).fleet
    registry = services(request).registry
    given, _ = await read_request(request, mode_decoder, {})
    before, fleet.tuning.mode = fleet.tuning.mode, Mode(given.mode)
    for deployment in fleet.deployments:
        deployment.retune()
    await registry.write_value(MODE_KEY, given.mode)
    profile = fleet.tuning.profile
    answer = ModeAnswer(
        success=True,
        message=f"Models are served in the mode {given.mode!r}",
        mode=given.mode,
        previous_mode=before.value,
        effects={
            "rows": profile.rows,
            "prefill_step_size": profile.chunk,
            "cache_bytes": profile.caches,
            "threads": profile.threads,
        },
        models=[describe(deployment) for deployment in fleet.deployments],
    )
    return json_answer(answer)


def describe(deployment: Deployment) -> TunedModel:
    """What a mode means for a model."""
    loaded, wanted = deployment.loaded_as if deployment.replicas else None, values_of(deployment.loads_as())
    in_force = {} if loaded is None else {"rows": deployment.queue.credits, **values_of(loaded)}
    return TunedModel(
        deployment.name,
        deployment.state.value,
        in_force,
        {name: value for name, value in wanted.items() if in_force.get(name) != value},
    )


def values_of(load: Load) -> dict[str, Tuned]:
    """What a worker is told of all that a mode changes."""
    return {name: getattr(load, name) for name in LOADED}


async def restore_mode(registry: Registry, tuning: Tuning) -> None:
    """Serve in the mode that was kept."""
    stored = await registry.read_value(MODE_KEY)
    if stored in list(Mode):
        tuning.mode = Mode(stored)
