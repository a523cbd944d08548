"""`/api/health`: Impetus' probes and figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app import __version__
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.machine.memory import memory
from mlx_server.app.views.inference import finished
from mlx_server.schemas.impetus.health import Alive, Checks, Component, Healthy, Ready, Status
from mlx_server.workers.parent.environment import backend_problem, mlx_backends

LITTLE_MEMORY_BYTES = 256 << 20
"""With less than this available, what comes next may be killed."""

Well = Literal["healthy", "degraded", "unhealthy"]


async def health(request: Request) -> Response:
    """200 as long as a model is served or will be; 503 once all of them were given up."""
    failed = services(request).fleet.failed
    status = Healthy("unhealthy" if failed else "healthy", now(), __version__, uptime_s())
    return json_answer(status, 503 if failed else 200)


async def ready(request: Request) -> Response:
    """200 when requests may be sent here, else 503: Kubernetes sends them elsewhere."""
    fleet = services(request).fleet
    checks = checks_of(fleet)
    may = fleet.ready and checks.mlx_available
    return json_answer(Ready(may, now(), checks, "Ready" if may else reason(fleet, checks)), 200 if may else 503)


async def live(request: Request) -> Response:
    """200 as long as the front end lives; Kubernetes restarts it otherwise, which no failed model is a reason for."""
    silences = [
        replica.worker.silence_s
        for deployment in services(request).fleet.deployments
        for replica in deployment.replicas
        if replica.worker.silence_s is not None
    ]
    heard = (datetime.now(UTC) - timedelta(seconds=min(silences))).isoformat() if silences else None
    return json_answer(Alive(True, now(), uptime_s(), heard))


async def status(request: Request) -> Response:
    """The server by its parts; 503 if it is unhealthy."""
    components = components_of(services(request).fleet)
    worst = worst_of(component.status for component in components.values())
    answer = Status(worst, now(), __version__, uptime_s(), components)
    return json_answer(answer, 503 if worst == "unhealthy" else 200)


async def metrics(request: Request) -> Response:
    """All metrics of `/metrics`, and Impetus' names for some of them."""
    meter = services(request).meter
    aliases = CollectorRegistry(auto_describe=False)
    aliases.register(Aliases(services(request).fleet, (await meter.metrics()).cpu.usage_percent))
    text = generate_latest(services(request).metrics) + generate_latest(aliases)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


class Aliases(Collector):
    """Impetus' metrics."""

    def __init__(self, fleet: Fleet, cpu_percent: float) -> None:
        self._queues = [deployment.queue for deployment in fleet.deployments]
        self._cpu_percent = cpu_percent

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        requests = sum(finished(queue.statistics) + queue.live for queue in self._queues)
        yield CounterMetricFamily("impetus_requests", "Total number of requests", requests)
        tokens = sum(queue.statistics.completion_tokens for queue in self._queues)
        yield CounterMetricFamily("impetus_tokens_generated", "Total tokens generated", tokens)
        yield GaugeMetricFamily("impetus_cpu_usage_percent", "CPU usage percentage", self._cpu_percent)


def now() -> str:
    """ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat()


def uptime_s() -> float:
    """Since the process was started."""
    created: float = psutil.Process().create_time()
    return round(time.time() - created, 3)


def checks_of(fleet: Fleet) -> Checks:
    """What a server needs."""
    return Checks(
        memory_available=memory().available_bytes >= LITTLE_MEMORY_BYTES,
        models_loaded=any(deployment.ready for deployment in fleet.deployments),
        mlx_available=backend_problem(mlx_backends()) is None,
    )


def reason(fleet: Fleet, checks: Checks) -> str:
    """Why it is not ready, in a sentence."""
    if not checks.mlx_available:
        return "MLX is not installed with something to compute on"
    if fleet.status == "stopping":
        return "The server is shutting down"
    if fleet.failed:
        return "All models were given up"
    return "Models are being loaded"


def components_of(fleet: Fleet) -> dict[str, Component]:
    """The parts of the server, and how each is."""
    deployments, machine, checks = fleet.deployments, memory(), checks_of(fleet)
    states = {deployment.name: deployment.status for deployment in deployments}
    broken = sum(deployment.state in (ModelState.FAILED, ModelState.RESTARTING) for deployment in deployments)
    full = [deployment.name for deployment in deployments if deployment.queue.live >= deployment.queue.capacity]
    return {
        "server": Component("healthy" if fleet.ready else "degraded", {"ready": fleet.ready}),
        "mlx": Component("healthy" if checks.mlx_available else "unhealthy", {"backends": sorted(mlx_backends())}),
        "models": Component(
            "unhealthy" if fleet.failed else "degraded" if broken else "healthy",
            {"models": states, "restarts": sum(deployment.restarts for deployment in deployments)},
        ),
        "queues": Component(
            "degraded" if full else "healthy",
            {
                "waiting": sum(deployment.queue.waiting for deployment in deployments),
                "running": sum(deployment.queue.running for deployment in deployments),
                "full": full,
            },
        ),
        "memory": Component(
            "healthy" if checks.memory_available else "degraded",
            {"total_bytes": machine.total_bytes, "available_bytes": machine.available_bytes},
        ),
    }


def worst_of(states: Iterator[Well]) -> Well:
    """The worst of some."""
    found = set(states)
    return "unhealthy" if "unhealthy" in found else "degraded" if "degraded" in found else "healthy"
