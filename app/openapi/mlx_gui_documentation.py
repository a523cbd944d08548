"""What the routes take and answer that manage models, settings and the server, as MLX-GUI has them."""

from __future__ import annotations

from mlx_server.app.openapi.route_doc import GENERATES, LOOKS_UP, Doc
from mlx_server.schemas import limits
from mlx_server.schemas.mlx_gui import app_settings, discovered, generate, managed_models, system

NAME = {"name": "The model's name or an alias of it. It may contain slashes, as they are or escaped."}
LIMIT = {"limit": "At most so many, 1 to 100 (20)."}
SEARCH = {"query": "What their ids contain, or the whole id of a model that they were made from."}
HUB = (400, 403, 404, 500, 502, 503)
OPERATES = (400, 403, 413, 500)
"""What only the operator may do."""

MANAGING: dict[str, Doc] = {
    "DELETE /v1/models/{name}": Doc(
        "Forget a model",
        managed_models.DeletedModel,
        errors=(400, 403, 404, 409, 500),
        path=NAME,
        query={"remove_files": "true (the default) or false: its files go too, if they lie where models are kept."},
    ),
    "/v1/models/install": Doc(
        "Download a model, and wait until it may be named",
        managed_models.Installed,
        managed_models.InstallRequest,
        errors=(400, 403, 404, 409, 413, 500, 502, 503, 507),
    ),
    "/v1/models/{name}/load": Doc(
        "Load a model, and wait until it takes work",
        managed_models.Moved,
        errors=(400, 403, 404, 409, 500, 503),
        path=NAME,
        query={"priority": "Of those that wait for memory, higher ones are loaded first (0)."},
    ),
    "/v1/models/{name}/unload": Doc(
        "Unload a model after what runs, and wait until its processes have ended",
        managed_models.Moved,
        errors=(400, 403, 404, 500),
        path=NAME,
    ),
    "/v1/models/{name}/pin": Doc(
        "Keep a model loaded whoever wants its memory, until the server ends",
        managed_models.Pinned,
        errors=(400, 403, 404, 500, 503),
        path=NAME,
    ),
    "/v1/models/{name}/unpin": Doc(
        "Let a model go again for others", managed_models.Pinned, errors=(400, 403, 404, 500, 503), path=NAME
    ),
    "/v1/models/{name}/health": Doc(
        "Whether a model takes work at once", managed_models.ModelHealth, errors=LOOKS_UP, path=NAME
    ),
    "/v1/models/{name}/generate": Doc(
        "Go on with a prompt", generate.Generated, generate.GenerateRequest, errors=(*GENERATES, 404), path=NAME
    ),
    "/v1/discover/models": Doc(
        "Models on the hub, in MLX's format",
        discovered.FoundModels,
        errors=HUB,
        query={**SEARCH, **LIMIT, "sort": "downloads (the default), likes, created or updated."},
    ),
    "/v1/discover/popular": Doc("Those that are downloaded most", discovered.FoundModels, errors=HUB, query=LIMIT),
    "/v1/discover/categories": Doc("Models by category", discovered.Categories, errors=HUB),
    "/v1/discover/compatible": Doc(
        "Those that fit into memory",
        discovered.FittingModels,
        errors=HUB,
        query={**SEARCH, **LIMIT, "max_memory_gb": "So much memory, in 2**30 bytes; else what this machine has free."},
    ),
    "/v1/discover/models/{id}": Doc(
        "One model on the hub, and whether it fits here",
        discovered.FoundDetails,
        errors=HUB,
        path={"id": "Its id on the hub, AUTHOR/NAME."},
    ),
    "/v1/manager/status": Doc("What is loaded, and what waits to be", managed_models.ManagerStatus),
    "/v1/manager/models/{name}/status": Doc(
        "One model, and its place in the line", managed_models.ManagedStatus, errors=LOOKS_UP, path=NAME
    ),
    "/v1/manager/models/{name}/priority": Doc(
        "Move a load that waits for memory",
        managed_models.PriorityAnswer,
        managed_models.PriorityRequest,
        errors=(400, 403, 404, 413, 500),
        path=NAME,
    ),
    "/v1/settings": Doc("Settings that clients may change", app_settings.AppSettings),
    "/v1/settings/{key}": Doc(
        "Change a setting",
        app_settings.SettingAnswer,
        app_settings.SettingRequest,
        errors=(*OPERATES, 404),
        path={"key": "The setting's key."},
    ),
    "/v1/system/status": Doc("The machine and the models", system.SystemStatus),
    "/v1/system/limits": Doc("What requests may ask for, and the keys that whoever asks may see", limits.ServerLimits),
    "/v1/system/shutdown": Doc("End the server after what runs", system.ShuttingDown, errors=(*OPERATES, 501)),
    "/v1/system/restart": Doc("Read the configuration again", system.Restarted, errors=OPERATES),
}
