"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

import functools
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.abilities import WRITES
from mlx_server.app.catalog.model_facts import MODEL_TYPES
from mlx_server.app.deployment import Deployment
from mlx_server.app.fleet.catalogue import Known
from mlx_server.app.fleet.errors import ModelNotFound
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.json_answer import json_answer
from mlx_server.app.settings import ModelType
from mlx_server.schemas.messages import ModelFacts
from mlx_server.schemas.openai import Features, Modalities, Model, ModelList
from mlx_server.schemas.openai_chat import ChatRequest
from mlx_server.schemas.openai_completions import CompletionRequest
from mlx_server.schemas.openai_embeddings import EmbeddingsRequest
from mlx_server.schemas.scores import SIDES, RerankRequest, ScoresRequest

COMPLETIONS = (ChatRequest, CompletionRequest)
COMPARISONS = (RerankRequest, ScoresRequest)
CONTENTS: dict[Any, set[str]] = {
    ChatRequest: {"messages"},
    CompletionRequest: {"prompt"},
    EmbeddingsRequest: {"input"},
    RerankRequest: {"query", "documents"},
    ScoresRequest: {side for pair in SIDES for side in pair},
}
"""Fields that say what is asked, not how."""
OUTPUTS = {"embeddings": ["embedding"], "rerank": ["score"]}


def describe(deployment: Deployment) -> Model:
    """OpenAI's model object, and what the model can do once that is known."""
    facts = deployment.facts
    context_length = facts.context_length if facts else None
    return Model(
        id=deployment.name,
        object="model",
        created=deployment.created,
        owned_by="mlx-server",
        status=deployment.status,
        context_length=context_length,
        default_max_tokens=default_max_tokens(deployment, context_length),
        modalities=Modalities(["text", *(facts.media if facts else ())], OUTPUTS.get(deployment.type, ["text"])),
        features=Features(
            tools=bool(facts.tools) if facts else None,
            structured_outputs=facts.grammars if facts else None,
            reasoning=facts.reasoning if facts else None,
            embeddings=facts.dimensions is not None if facts else None,
            rerank=facts.scoring is not None if facts else None,
            dimensions=facts.dimensions if facts else None,
        ),
        supported_parameters=list(supported_parameters(deployment.type, *abilities(facts))),
    )


def default_max_tokens(deployment: Deployment, context_length: int | None) -> int | None:
    """How long an answer may be that sets no limit; None for a model that writes none."""
    if deployment.type not in WRITES:
        return None
    most = deployment.settings.default_max_tokens
    return min(most, context_length or most)


def abilities(facts: ModelFacts | None) -> tuple[bool, bool]:
    """Whether the model makes embeddings, and whether it looks at pictures, as far as that is known."""
    return (facts.dimensions is not None, "image" in facts.media) if facts else (False, False)


@functools.cache
def supported_parameters(model_type: ModelType, embeds: bool, sees: bool) -> tuple[str, ...]:
    """The parameters that requests may have, by name: whatever the types of requests that the model answers take."""
    requests: tuple[Any, ...] = COMPLETIONS if model_type in WRITES else ()
    if embeds or model_type == "embeddings":
        requests += (EmbeddingsRequest,)
    if embeds or model_type not in WRITES:
        requests += COMPARISONS
    names = {field.encode_name for request in requests for field in msgspec.structs.fields(request)}
    # A completion's `prompt` is what is asked, so an embedding's, which is a parameter, goes unnamed beside it.
    names -= set().union(*(CONTENTS[request] for request in requests))
    refused = {"model"}
    if not sees:
        refused.add("image_url")
    if model_type != "rerank":
        refused.add("instruction")
    return tuple(sorted(names - refused))


def describe_known(known: Known) -> Model:
    """The same of a model that is not loaded: what its files say."""
    model_type: ModelType = known.settings.type or served_as(known)
    found = known.on_disk
    most = known.settings.default_max_tokens
    context_length = found.context_length if found else None
    return Model(
        id=known.name,
        object="model",
        created=0,
        owned_by="mlx-server",
        status="unloaded",
        context_length=context_length,
        default_max_tokens=min(most, context_length or most) if model_type in WRITES else None,
        modalities=Modalities(["text"], OUTPUTS.get(model_type, ["text"])),
        features=Features(None, None, None, None, None, None),
        supported_parameters=list(supported_parameters(model_type, False, False)),
    )


def served_as(known: Known) -> ModelType:
    """What its files say, else text: nobody has looked at what lies in the hub's cache."""
    return cast(ModelType, MODEL_TYPES[known.on_disk.kind]) if known.on_disk else "lm"


async def list_models(request: Request) -> Response:
    """All models that requests may name."""
    fleet: Fleet = request.app.state.fleet
    models = []
    for known in await fleet.known():
        deployment = fleet.find(known.name)
        models.append(describe(deployment) if deployment else describe_known(known))
    return json_answer(ModelList("list", models))


async def get_model(request: Request) -> Response:
    """One model by its id, which may contain slashes."""
    fleet: Fleet = request.app.state.fleet
    name = request.path_params["id"]
    if (deployment := fleet.find(name)) is not None:
        return json_answer(describe(deployment))
    known = next((known for known in await fleet.known() if known.name == name), None)
    if known is None:
        raise ModelNotFound(name)
    return json_answer(describe_known(known))
