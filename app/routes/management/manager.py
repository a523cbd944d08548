"""`/v1/manager`: what is loaded, and what waits to be."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.kinds import PIPELINES
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.model_state import HAS_WORKERS, ModelState
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.machine.memory import memory
from mlx_server.app.machine.sizes import GIBIBYTE
from mlx_server.app.middleware.operator import operator_only
from mlx_server.app.routes.generation import read_request
from mlx_server.app.views.model_view import find_view, gigabytes
from mlx_server.schemas.mlx_gui.managed_models import (
    HeldConfig,
    HeldModel,
    ManagedStatus,
    ManagerStatus,
    ManagerSummary,
    PriorityAnswer,
    QueuedLoad,
    priority_decoder,
)

LOADED = (ModelState.LOADED, ModelState.RESTARTING)


async def status(request: Request) -> Response:
    """All that is loaded, and the queue of loads."""
    fleet = services(request).fleet
    loaded = [one for one in fleet.deployments if one.state in LOADED]
    held = await to_thread.run_sync(lambda: {one.name: one.memory_bytes() for one in loaded})
    granted = fleet.ledger.granted
    models = {
        one.name: HeldModel(
            one.loaded_at,
            one.last_used_at,
            round(held[one.name] / GIBIBYTE, 2),
            HeldConfig(PIPELINES[one.type], gigabytes(granted.get(one.name) or None)),
            one.state.value,
            len(one.replicas),
            one.pids,
        )
        for one in loaded
    }
    loads = [QueuedLoad(one.name, one.priority, one.since, one.position) for one in fleet.waiting_loads]
    return json_answer(ManagerStatus(models, await summary(fleet), loads))


async def summary(fleet: Fleet) -> ManagerSummary:
    """All models together."""
    working = [one for one in fleet.deployments if one.state in HAS_WORKERS]
    used, total = await to_thread.run_sync(lambda: (held_bytes(working), memory().total_bytes))
    idle_s = fleet.settings.idle_timeout_s
    return ManagerSummary(
        loaded_models_count=sum(one.state in LOADED for one in working),
        max_concurrent_models=fleet.settings.max_models,
        queue_size=len(fleet.waiting_loads),
        total_model_memory_gb=round(used / GIBIBYTE, 2),
        memory_usage_percent=round(100 * used / total, 1),
        memory_limit_gb=gigabytes(fleet.ledger.limit_bytes),
        auto_unload_enabled=idle_s > 0,
        inactivity_timeout_minutes=round(idle_s / 60, 3),
    )


def held_bytes(deployments: list[Deployment]) -> int:
    """What their workers hold. Blocks."""
    return sum(one.memory_bytes() for one in deployments)


async def model_status(request: Request) -> Response:
    """One model, and its place in the line."""
    model = await find_view(request, request.path_params["name"])
    fleet = services(request).fleet
    deployment = model.deployment
    held = await to_thread.run_sync(deployment.memory_bytes) if deployment else 0
    position = next((one.position for one in fleet.waiting_loads if one.name == model.name), None)
    return json_answer(
        ManagedStatus(
            name=model.name,
            status=model.status,
            loaded=deployment is not None and deployment.state in LOADED,
            loaded_at=deployment.loaded_at if deployment else None,
            last_used_at=model.last_used_at,
            memory_usage_gb=gigabytes(held or None),
            queue_position=position,
        )
    )


@operator_only
async def set_priority(request: Request) -> Response:
    """Move a load that waits for memory."""
    given, _ = await read_request(request, priority_decoder, {})
    model = await find_view(request, request.path_params["name"])
    fleet = services(request).fleet
    if model.deployment is not None:
        fleet.set_priority(model.name, given.priority)
    return json_answer(PriorityAnswer(model.name, given.priority, "Priority update requested"))
