"""What Impetus' routes take and answer, for the OpenAPI document: all that is below `/api/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlx_server.app.hub.categories import WORDS
from mlx_server.app.openapi.route_doc import LOOKS_UP, Doc
from mlx_server.schemas.impetus import hardware, performance
from mlx_server.schemas.impetus import health as impetus_health
from mlx_server.schemas.impetus import loaded as impetus_loaded
from mlx_server.schemas.impetus import models as impetus_models
from mlx_server.schemas.internal.errors import ApiErrorBody

MOVES_MODELS = (400, 403, 404, 409, 413, 500, 503)

_DOCS: dict[str, Doc] = {
    "/api/docs": Doc("This document, for people", media="text/html"),
    "/api/docs/openapi.json": Doc("This document", dict[str, Any]),
    "/api/health": Doc(
        "Whether models are served or will be", impetus_health.Healthy, also={503: impetus_health.Healthy}
    ),
    "/api/health/ready": Doc(
        "Whether requests may be sent here", impetus_health.Ready, also={503: impetus_health.Ready}
    ),
    "/api/health/live": Doc("Whether the front end lives", impetus_health.Alive),
    "/api/health/status": Doc("The server by its parts", impetus_health.Status, also={503: impetus_health.Status}),
    "/api/health/metrics": Doc("Metrics for Prometheus, Impetus' names among them", media="text/plain"),
    "/api/hardware/info": Doc("What the machine is", hardware.HardwareInfo),
    "/api/hardware/metrics": Doc("What the machine does now", hardware.HardwareMetrics),
    "/api/hardware/performance-mode": Doc(
        "How much of the machine models take",
        performance.ModeAnswer,
        performance.ModeRequest,
        errors=(400, 403, 413, 500),
    ),
    "/api/models/list": Doc("Models that are loaded", impetus_loaded.LoadedModels),
    "/api/models/load": Doc(
        "Load a model; answers once it takes work",
        impetus_loaded.Moved,
        impetus_loaded.LoadRequest,
        errors=MOVES_MODELS,
    ),
    "/api/models/unload": Doc(
        "Unload a model; answers once its processes are gone",
        impetus_loaded.Moved,
        impetus_loaded.UnloadRequest,
        errors=MOVES_MODELS,
    ),
    "/api/models/benchmark/{model_id}": Doc(
        "Measure a loaded model",
        impetus_loaded.Benchmark,
        impetus_loaded.BenchmarkRequest,
        errors=(*MOVES_MODELS, 429, 502, 504),
        path={"model_id": "The model's id. It may contain slashes, as they are or escaped."},
    ),
    "/api/models/discover": Doc(
        "Models on the hub that may be downloaded",
        impetus_models.DiscoveredModels,
        errors=(400, 403, 500, 503),
        query={
            "category": f"One of {', '.join(category.name for category in WORDS)}.",
            "size_limit_gb": "At most so large, in 10**9 bytes.",
        },
    ),
    "/api/models/download": Doc(
        "Download a model, or go on with it",
        impetus_models.DownloadStarted,
        impetus_models.DownloadRequest,
        errors=(400, 403, 404, 409, 413, 429, 500, 502, 503),
    ),
    "/api/models/downloads": Doc("All downloads, the newest first", impetus_models.DownloadList),
    "/api/models/downloads/{id}": Doc(
        "A download now", impetus_models.DownloadState, errors=LOOKS_UP, path={"id": "The download's id."}
    ),
    "DELETE /api/models/downloads/{id}": Doc(
        "Cancel a download; what has arrived is kept",
        impetus_models.DownloadState,
        errors=(403, 404, 500),
        path={"id": "The download's id."},
    ),
}
IMPETUS: Mapping[str, Doc] = {name: replace(doc, error=ApiErrorBody) for name, doc in _DOCS.items()}
