"""`/api/models/discover`, `/api/models/download` and `/api/models/downloads`: models from the hub."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.hub_cache import snapshot
from mlx_server.app.config.names import NAME_RULE, is_name
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.hub.categories import ALL, WORDS, Category
from mlx_server.app.hub.model import HubModel
from mlx_server.app.hub.speed import CHIPS, tokens_per_s
from mlx_server.app.machine.sizes import people_count
from mlx_server.app.middleware.operator import operator_only
from mlx_server.app.routes.generation import read_request
from mlx_server.app.routes.query import query_of
from mlx_server.app.views.download_state import download_state
from mlx_server.schemas.impetus import models as schemas
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.parent.environment import mlx_backends

GB = 1e9
MAX_LISTED = 50
MACHINES_GB = (8, 16, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512)
"""Memory that Macs are sold with."""

GPU_SHARE = 0.75
"""How much of it macOS gives the graphics processor."""


async def discover(request: Request) -> Response:
    """Models on the hub that may be downloaded, by how often others do."""
    query = query_of(request, ("category", "size_limit_gb"))
    category = category_of(query.get("category"))
    limit = size_limit(query.get("size_limit_gb"))
    hub = services(request).hub
    models = [model for model in await hub.of_category(category) if fits(model, limit)][:MAX_LISTED]
    answer = await asyncio.to_thread(describe_all, models)
    return json_answer(answer)


def category_of(given: str | None) -> Category:
    """The category that is asked for. Raises InvalidRequest."""
    if given is None:
        return ALL
    found = next((category for category in WORDS if category.name == given.lower()), None)
    if found is None:
        allowed = ", ".join(category.name for category in WORDS)
        raise InvalidRequest(f"`category`: one of {allowed} is allowed, got {given[:64]!r}.", "category")
    return found


def size_limit(given: str | None) -> float | None:
    """Bytes. Raises InvalidRequest."""
    if given is None:
        return None
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise InvalidRequest(f"`size_limit_gb`: a number above 0 is allowed, got {given[:64]!r}.", "size_limit_gb")
    return limit * GB


def fits(model: HubModel, limit: float | None) -> bool:
    """Whether it is known to be no larger."""
    return limit is None or (model.size_bytes is not None and model.size_bytes <= limit)


def describe_all(models: Sequence[HubModel]) -> schemas.DiscoveredModels:
    """As clients read them. Looks at the hub's cache."""
    backends = mlx_backends()
    return schemas.DiscoveredModels(
        models=[describe(model, is_downloaded=snapshot(model.id) is not None) for model in models],
        total_models=len(models),
        categories=[category.name for category in WORDS],
        hardware_compatibility=schemas.HardwareCompatibility(bool(backends), "metal" in backends),
    )


def describe(model: HubModel, *, is_downloaded: bool) -> schemas.DiscoveredModel:
    """As clients read it."""
    speeds = [tokens_per_s(model, chip) for chip in CHIPS.values()]
    return schemas.DiscoveredModel(
        model_id=model.id,
        name=model.title,
        description=model.description,
        size_gb=gigabytes(model.size_bytes),
        parameters=people_count(model.parameters) if model.parameters else None,
        architecture=model.architecture,
        quantization=model.quantisation,
        performance_estimate=schemas.PerformanceEstimate(*speeds) if any(speeds) else None,
        recommended_memory_gb=recommended_gb(model.estimated_memory_bytes),
        tags=list(model.tags),
        is_downloaded=is_downloaded,
    )


def gigabytes(count: int | None) -> float | None:
    """Bytes for people."""
    return None if count is None else round(count / GB, 2)


def recommended_gb(needed_bytes: int | None) -> float | None:
    """The smallest machine that is sold whose graphics processor may use so much; None if there is none."""
    if needed_bytes is None:
        return None
    return next((float(size) for size in MACHINES_GB if size * GB * GPU_SHARE >= needed_bytes), None)


@operator_only
async def download(request: Request) -> Response:
    """Start to download a model, or go on with it."""
    given, _ = await read_request(request, schemas.download_decoder, {})
    if given.name is not None and not is_name(given.name):
        raise InvalidRequest(f"`name`: {NAME_RULE} are allowed.", "name")
    hub = services(request).hub
    installer = services(request).installer
    await installer.check(given.name or given.model_id, given.model_id)
    model = await hub.details(given.model_id)
    if model.gated:
        await hub.check_access(model.id)
    started = await services(request).downloads.start(
        given.model_id, name=given.name, force=given.force_download, auto_load=given.auto_load
    )
    data = schemas.StartedDownload(given.model_id, started.id, gigabytes(model.size_bytes))
    return json_answer(schemas.DownloadStarted(True, "Model download started", data))


async def downloads(request: Request) -> Response:
    """All downloads since there is a registry."""
    found = await services(request).downloads.everywhere()
    return json_answer(schemas.DownloadList([download_state(one) for one in found]))


async def one_download(request: Request) -> Response:
    """A download by its id."""
    return await (cancel(request) if request.method == "DELETE" else show(request))


async def show(request: Request) -> Response:
    """How far it is."""
    return json_answer(download_state(await services(request).downloads.find(request.path_params["id"])))


@operator_only
async def cancel(request: Request) -> Response:
    """End it; what has arrived is kept for the next start."""
    return json_answer(download_state(await services(request).downloads.cancel(request.path_params["id"])))
