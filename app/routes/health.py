"""Health: whether the front end lives, and whether work can be taken."""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app import __version__
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.schemas.operations import Health, Live, Readiness


async def health(request: Request) -> Response:
    """200 as long as a model is served or will be; 503 once all of them were given up."""
    fleet = services(request).fleet
    first = next(iter(fleet.deployments), None)
    failed = fleet.failed
    status = Health(
        "unhealthy" if failed else "healthy",
        __version__,
        first.name if first else None,
        first.status if first else fleet.status,
        dict(sum((Counter(deployment.worker_states) for deployment in fleet.deployments), Counter())),
        {deployment.name: deployment.status for deployment in fleet.deployments},
    )
    return json_answer(status, 503 if failed else 200)


async def live(request: Request) -> Response:
    """200 as long as the front end lives."""
    return json_answer(Live("live"))


async def ready(request: Request) -> Response:
    """200 when work can be taken, else 503."""
    fleet = services(request).fleet
    first = next(iter(fleet.deployments), None)
    status = Readiness("ready" if fleet.ready else "not ready", first.status if first else fleet.status)
    return json_answer(status, 200 if fleet.ready else 503)
