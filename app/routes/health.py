"""Health: whether the front end lives, and whether a worker can take work."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from mlx_server.app import __version__
from mlx_server.app.deployment import Deployment
from mlx_server.workers.supervisor import WorkerState


async def health(request: Request) -> JSONResponse:
    """200 as long as the model is served or will be; 503 once its worker was given up."""
    deployment: Deployment = request.app.state.deployment
    failed = deployment.worker.state is WorkerState.FAILED
    status = {"status": "unhealthy" if failed else "healthy", "version": __version__}
    return JSONResponse({**status, "model": deployment.name, "worker": deployment.status}, 503 if failed else 200)


async def live(request: Request) -> JSONResponse:
    """200 as long as the front end lives."""
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> JSONResponse:
    """200 when a worker can take work, else 503."""
    deployment: Deployment = request.app.state.deployment
    status = {"status": "ready" if deployment.ready else "not ready", "worker": deployment.status}
    return JSONResponse(status, 200 if deployment.ready else 503)
