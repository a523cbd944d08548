"""`/v1/models/{name}/…` and `/v1/models/install`: models are loaded, unloaded, installed and deleted."""

from __future__ import annotations

import sqlite3

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.errors import ModelNotFound
from mlx_server.app.config.names import NAME_RULE, is_name
from mlx_server.app.deployment.model_state import ModelState
from mlx_server.app.encoders.generated import GenerateEncoder
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.disconnect import cancel_on_disconnect
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.responder import GenerationResponse
from mlx_server.app.http.services import services
from mlx_server.app.hub.download import DownloadStatus
from mlx_server.app.hub.downloads import Downloads
from mlx_server.app.middleware.operator import operator_only
from mlx_server.app.routes.generation import admit, make_head, read_request
from mlx_server.app.routes.query import number, query_of
from mlx_server.app.views.model_view import find_view
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.mlx_gui import generate as generating
from mlx_server.schemas.mlx_gui.managed_models import (
    MOST_PRIORITY,
    DeletedModel,
    Installed,
    ModelHealth,
    Moved,
    Pinned,
    install_decoder,
)
from mlx_server.workers.hub.errors import HubError


@operator_only
async def load(request: Request) -> Response:
    """Load a model, and answer once it takes work."""
    query = query_of(request, ("priority",))
    priority = number(query.get("priority", "0"), "priority", -MOST_PRIORITY, MOST_PRIORITY)
    fleet = services(request).fleet
    deployment = await fleet.load(request.path_params["name"], priority=priority)
    return json_answer(Moved(f"Model '{deployment.name}' loaded successfully", ModelState.LOADED.value))


@operator_only
async def unload(request: Request) -> Response:
    """Unload a model after what runs, and answer once its processes have ended."""
    query_of(request, ())
    model = await find_view(request, request.path_params["name"])
    if model.deployment is not None:
        fleet = services(request).fleet
        await fleet.unload(model.name)
    return json_answer(Moved(f"Model '{model.name}' unloaded successfully", ModelState.UNLOADED.value))


@operator_only
async def pin(request: Request) -> Response:
    """Keep a model loaded whoever wants its memory, until the server ends."""
    return await pinned(request, pinned=True)


@operator_only
async def unpin(request: Request) -> Response:
    """Let a model go again for others."""
    return await pinned(request, pinned=False)


async def pinned(request: Request, *, pinned: bool) -> Response:
    """Pin a model or not, and say so. Raises FleetError."""
    query_of(request, ())
    deployment = await services(request).fleet.pin(request.path_params["name"], pinned=pinned)
    return json_answer(Pinned(f"Model '{deployment.name}' is {'' if pinned else 'not '}pinned", pinned))


async def health(request: Request) -> Response:
    """Whether a model takes work at once."""
    model = await find_view(request, request.path_params["name"])
    healthy = model.deployment is not None and model.deployment.ready
    return json_answer(ModelHealth(model.name, model.status, healthy, model.last_used_at))


@operator_only
async def delete(request: Request) -> Response:
    """Forget a model, and remove its files if they lie where models are kept. One that is configured stays."""
    remove_files = choice(query_of(request, ("remove_files",)).get("remove_files"), "remove_files", default=True)
    registry = services(request).registry
    fleet = services(request).fleet
    name = request.path_params["name"]
    fleet.check_deletable(name)
    try:
        removed = await fleet.delete(name, remove_files=remove_files, clear=services(request).downloads.clear)
    except ModelNotFound:  # the registry may have a row that says nothing of where it is
        if not await registry.remove(name):
            raise
        removed = False
    except (OSError, sqlite3.Error) as error:
        raise HTTPException(500, f"Model '{name}' could not be deleted: {error}") from None
    return json_answer(DeletedModel(f"Model '{name}' deleted successfully", removed, "deleted"))


def choice(given: str | None, name: str, *, default: bool) -> bool:
    """A boolean in a query. Raises InvalidRequest."""
    words = {"true": True, "1": True, "false": False, "0": False}
    if given is None:
        return default
    if given.lower() not in words:
        raise InvalidRequest(f"`{name}`: 'true' or 'false' is allowed, got {given[:64]!r}.", name)
    return words[given.lower()]


async def generate(request: Request) -> GenerationResponse:
    """Go on with a prompt; the model is loaded if need be."""
    given, ignored = await read_request(request, generating.generate_decoder, generating.HARMLESS)
    model = await find_view(request, request.path_params["name"])
    fleet = services(request).fleet
    deployment = await fleet.choose(model.name)
    record_of(request.scope).model = deployment.name
    encoder = GenerateEncoder(make_head(request, deployment, given), given)
    return await admit(request, deployment, given, encoder, ignored)


@operator_only
async def install(request: Request) -> Response:
    """Download a model from the hub, if it is not here, and answer once it may be named."""
    given, _ = await read_request(request, install_decoder, {})
    name = given.name or given.model_id
    if given.name is not None and not is_name(given.name):
        raise InvalidRequest(f"`name`: {NAME_RULE} are allowed.", "name")
    installer = services(request).installer
    hub = services(request).hub
    await installer.check(name, given.model_id)
    if not await installer.is_whole(name, given.model_id):
        await hub.details(given.model_id)  # says sooner and better what is wrong
        await cancel_on_disconnect(request, downloaded(services(request).downloads, given.model_id, name))
    fleet = services(request).fleet
    fleet.add_installed(name)
    answer = Installed(f"Model '{name}' installed successfully", name, given.model_id, "installed")
    return json_answer(answer)


async def downloaded(downloads: Downloads, hub_id: str, name: str) -> None:
    """Returns once it is here; it goes on if nobody waits for it any more. Raises HubError."""
    started = await downloads.start(hub_id, name=name)
    ended = await downloads.wait(started.id)
    if ended.status is not DownloadStatus.COMPLETED:
        raise HubError(ended.row.error or f"The download of {hub_id} was {ended.status.value}.")
