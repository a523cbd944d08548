"""Health: whether the front end lives, and whether a worker can take work."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app import __version__
from mlx_server.app.deployment import Deployment
from mlx_server.app.json_answer import json_answer
from mlx_server.schemas.operations import Health, Live, Readiness
from mlx_server.workers.supervisor import WorkerState


async def health(request: Request) -> Response:
    """200 as long as the model is served or will be; 503 once its workers were given up."""
    deployment: Deployment = request.app.state.deployment
    failed = deployment.state is WorkerState.FAILED
    status = Health(
        "unhealthy" if failed else "healthy",
        __version__,
        deployment.name,
        deployment.status,
        deployment.worker_states,
    )
    return json_answer(status, 503 if failed else 200)


async def live(request: Request) -> Response:
    """200 as long as the front end lives."""
    return json_answer(Live("live"))


async def ready(request: Request) -> Response:
    """200 when a worker can take work, else 503."""
    deployment: Deployment = request.app.state.deployment
    status = Readiness("ready" if deployment.ready else "not ready", deployment.status)
    return json_answer(status, 200 if deployment.ready else 503)
