"""`/v1/discover`: models on the hub."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.memory_verdict import fits_message
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.hub.discovery import SORTS, Sort
from mlx_server.app.hub.model import HubModel
from mlx_server.app.machine.device import find_device
from mlx_server.app.machine.sizes import GIBIBYTE
from mlx_server.app.routes.query import number, query_of
from mlx_server.app.views.model_view import gigabytes
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.mlx_gui import discovered

MOST = 100
USUAL = "20"
LONGEST_QUERY = 200
LOOKED_AT = 100
"""How many models are looked at for some that fit."""


async def models(request: Request) -> Response:
    """Models in MLX's format."""
    query = query_of(request, ("query", "limit", "sort"))
    sort = query.get("sort", "downloads")
    if sort not in SORTS:
        raise InvalidRequest(f"`sort`: one of {', '.join(SORTS)} is allowed, got {sort[:64]!r}.", "sort")
    found = await services(request).hub.search(text(query), limit(query), cast(Sort, sort))
    return json_answer(discovered.FoundModels([discovered.FoundModel(**facts(one)) for one in found], len(found)))


async def popular(request: Request) -> Response:
    """Those that are downloaded most."""
    found = await services(request).hub.popular(limit(query_of(request, ("limit",))))
    return json_answer(discovered.FoundModels([discovered.FoundModel(**facts(one)) for one in found], len(found)))


async def categories(request: Request) -> Response:
    """Ids by category."""
    query_of(request, ())
    return json_answer(discovered.Categories(await services(request).hub.categories()))


async def compatible(request: Request) -> Response:
    """Those that fit into memory: what is given, else what this machine has free."""
    query = query_of(request, ("query", "max_memory_gb", "limit"))
    most = limit(query)
    available = await available_bytes(query.get("max_memory_gb"))
    found = await services(request).hub.search(text(query), LOOKED_AT)
    fitting = [one for one in found if one.memory_fit(available)][:most]
    listed = [discovered.FittingModel(**facts(one), memory_fit=True) for one in fitting]
    return json_answer(discovered.FittingModels(listed, len(listed)))


async def details(request: Request) -> Response:
    """One model, and whether it fits here."""
    model = await services(request).hub.details(request.path_params["id"])
    available, required = await available_bytes(None), model.estimated_memory_bytes
    message = "Its size is not known" if required is None else fits_message(available, required)
    return json_answer(
        discovered.FoundDetails(
            **facts(model),
            created_at=model.created_at,
            library_name=model.library_name,
            pipeline_tag=model.pipeline_tag,
            system_compatible=model.memory_fit(available),
            compatibility_message=message,
        )
    )


def text(query: dict[str, str]) -> str | None:
    """What is searched for. Raises InvalidRequest."""
    given = query.get("query")
    if given is not None and len(given) > LONGEST_QUERY:
        raise InvalidRequest(f"`query`: at most {LONGEST_QUERY} characters are allowed.", "query")
    return given


def limit(query: dict[str, str]) -> int:
    """How many are listed. Raises InvalidRequest."""
    return number(query.get("limit", USUAL), "limit", 1, MOST)


async def available_bytes(given: str | None) -> int:
    """Bytes. Raises InvalidRequest."""
    if given is None:
        return (await asyncio.to_thread(find_device)).available_bytes
    try:
        size = float(given)
    except ValueError:
        size = math.nan
    if not 0 < size < 1e6:
        raise InvalidRequest(f"`max_memory_gb`: a number above 0 is allowed, got {given[:64]!r}.", "max_memory_gb")
    return int(size * GIBIBYTE)


def facts(model: HubModel) -> dict[str, Any]:
    """What every answer tells of a model, as fields of FoundModel."""
    return {
        "id": model.id,
        "name": model.name,
        "author": model.author,
        "downloads": model.downloads,
        "likes": model.likes,
        "model_type": model.model_type,
        "size_gb": None if model.size_bytes is None else round(model.size_bytes / 1e9, 2),
        "estimated_memory_gb": gigabytes(model.estimated_memory_bytes),
        "mlx_compatible": model.mlx_compatible,
        "has_mlx_version": model.has_mlx_version,
        "mlx_repo_id": model.mlx_repo_id,
        "tags": list(model.tags),
        "description": model.description,
        "updated_at": model.updated_at,
    }
