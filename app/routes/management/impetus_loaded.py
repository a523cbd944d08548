"""`/api/models/list`, `/load`, `/unload` and `/benchmark`: the models that are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.errors import ModelBusy, ModelNotFound, ModelNotLoaded, NotServable
from mlx_server.app.catalog.served_type import files_of
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.model_state import HAS_WORKERS, ModelState
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.disconnect import cancel_on_disconnect
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.machine.memory import memory
from mlx_server.app.machine.sizes import people_count
from mlx_server.app.middleware.api_key import tenant_of
from mlx_server.app.middleware.operator import operator_only, own_pages_only
from mlx_server.app.routes.generation import read_request
from mlx_server.app.views import benchmark as benchmarks
from mlx_server.app.views.capabilities import WRITES
from mlx_server.schemas.impetus import loaded as schemas
from mlx_server.schemas.internal.errors import InvalidRequest

MEGABYTE = 1 << 20


async def list_loaded(request: Request) -> Response:
    """All models with worker processes."""
    fleet = services(request).fleet
    loaded = [one for one in fleet.deployments if one.state in HAS_WORKERS]
    return json_answer(await to_thread.run_sync(describe_all, loaded, fleet.ledger.limit_bytes))


@operator_only
async def load(request: Request) -> Response:
    """Load a model; answers once it takes work."""
    fleet = services(request).fleet
    given, _ = await read_request(request, schemas.load_decoder, {})
    deployment = await cancel_on_disconnect(request, fleet.load(given.model_id, force_reload=given.force_reload))
    return await moved(deployment, "is loaded")


@operator_only
async def unload(request: Request) -> Response:
    """Unload a model; answers once its processes are gone."""
    fleet = services(request).fleet
    given, _ = await read_request(request, schemas.unload_decoder, {})
    return await moved(await fleet.unload(given.model_id, force=given.force), "is unloaded")


@own_pages_only
async def benchmark(request: Request) -> Response:
    """Measure a loaded model."""
    fleet = services(request).fleet
    given, _ = await read_request(request, schemas.benchmark_decoder, {})
    deployment = measurable(fleet, request.path_params["model_id"])
    if given.num_samples * given.max_tokens > schemas.MAX_TOKENS_IN_ALL:
        most = schemas.MAX_TOKENS_IN_ALL
        raise InvalidRequest(f"`num_samples` times `max_tokens`: at most {most} are allowed.", "num_samples")
    measuring = services(request).benchmarked
    if deployment.name in measuring:
        raise ModelBusy(f"Model '{deployment.name}' is being measured already; two at once would slow each other.")
    measuring.add(deployment.name)
    try:
        work = benchmarks.measure(request, deployment, given, tenant_of(request))
        measured = await cancel_on_disconnect(request, work)
    finally:
        measuring.discard(deployment.name)
    return json_answer(report(deployment.name, measured))


def measurable(fleet: Fleet, name: str) -> Deployment:
    """A model that writes text and is loaded. Raises FleetError."""
    deployment = fleet.find(name)
    if deployment is None:
        raise ModelNotFound(name)
    if deployment.type not in WRITES:
        raise NotServable(f"Model '{deployment.name}' writes no text, and this measures how fast text is written.")
    if deployment.state is not ModelState.LOADED:
        raise ModelNotLoaded(deployment.name)
    return deployment


async def moved(deployment: Deployment, what: str) -> Response:
    """How a model is after it was asked to move."""
    used = await to_thread.run_sync(deployment.memory_bytes)
    data = schemas.ModelMoved(
        deployment.name, deployment.state.value, megabytes(used), seconds(deployment.load_seconds)
    )
    return json_answer(schemas.Moved(True, f"Model '{deployment.name}' {what}", data))


def describe_all(loaded: Sequence[Deployment], limit_bytes: int | None) -> schemas.LoadedModels:
    """Models as clients read them, and the memory that is left of the machine and of the server's limit. Blocks."""
    used = [one.memory_bytes() for one in loaded]
    available = memory().available_bytes
    if limit_bytes is not None:
        available = min(available, max(0, limit_bytes - sum(used)))
    return schemas.LoadedModels(
        models=[describe(one, held) for one, held in zip(loaded, used, strict=True)],
        total_memory_usage_mb=megabytes(sum(used)),
        available_memory_mb=megabytes(available),
    )


def describe(deployment: Deployment, used: int) -> schemas.LoadedModel:
    """One model as clients read it. Blocks."""
    files, facts = files_of(deployment.settings), deployment.facts
    size = files.weight_bytes if files else facts.parameter_bytes if facts else None
    return schemas.LoadedModel(
        model_id=deployment.name,
        status=deployment.state.value,
        size_mb=None if size is None else megabytes(size),
        memory_usage_mb=megabytes(used),
        load_time_seconds=seconds(deployment.load_seconds),
        last_used=deployment.last_used_at.isoformat() if deployment.last_used_at else None,
        format="GGUF" if deployment.settings.path.endswith(".gguf") else "MLX",
        architecture=facts.architecture if facts else files.architecture if files else None,
        parameters=people_count(files.parameters) if files and files.parameters else None,
        quantization=files.quantisation if files else None,
    )


def report(name: str, measured: benchmarks.Measured) -> schemas.Benchmark:
    """Measurements as clients read them."""
    samples = measured.samples
    tokens, time_s = sum(one.tokens for one in samples), sum(one.time_s for one in samples)
    first = [one.first_token_s for one in samples if one.first_token_s is not None]
    gpu = [one.gpu_percent for one in samples if one.gpu_percent is not None]
    return schemas.Benchmark(
        model_id=name,
        timestamp=datetime.now(UTC).isoformat(),
        tokens_per_second=round(tokens / time_s, 2),
        first_token_latency_ms=round(1000 * sum(first) / len(first), 2) if first else None,
        total_tokens=tokens,
        total_time_seconds=round(time_s, 3),
        memory_usage_mb=None if measured.memory_bytes is None else megabytes(measured.memory_bytes),
        gpu_utilization_percent=round(sum(gpu) / len(gpu), 1) if gpu else None,
        samples=[
            schemas.BenchmarkSample(
                one.tokens,
                round(one.time_s, 4),
                round(one.tokens / one.time_s, 2),
                None if one.first_token_s is None else round(1000 * one.first_token_s, 2),
            )
            for one in samples
        ],
    )


def megabytes(count: int) -> float:
    """Bytes for people."""
    return round(count / MEGABYTE, 1)


def seconds(value: float | None) -> float | None:
    """Milliseconds are enough."""
    return None if value is None else round(value, 3)
