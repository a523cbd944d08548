"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment import Deployment
from mlx_server.schemas.openai import Model, ModelList


def describe(deployment: Deployment) -> Model:
    """OpenAI's model object, with the context length once it is known."""
    facts = deployment.facts
    return Model(
        deployment.name,
        "model",
        deployment.created,
        context_length=facts.context_length if facts else None,
        status=deployment.status,
    )


async def list_models(request: Request) -> Response:
    """All models that requests may name."""
    models = ModelList("list", [describe(request.app.state.deployment)])
    return Response(msgspec.json.encode(models), media_type="application/json")


async def get_model(request: Request) -> Response:
    """One model by its id, which may contain slashes."""
    deployment: Deployment = request.app.state.deployment
    id_ = request.path_params["id"]
    if id_ != deployment.name:
        raise HTTPException(404, f"There is no model {id_!r}; {deployment.name!r} is served.")
    return Response(msgspec.json.encode(describe(deployment)), media_type="application/json")
