"""`/v1/models` and `/v1/models/{name}`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.catalog.model_facts import ModelOnDisk
from mlx_server.app.config.settings import ModelType
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.http.json_answer import json_answer
from mlx_server.app.http.services import services
from mlx_server.app.machine.device import Device, find_device
from mlx_server.app.routes.management.model_management import delete
from mlx_server.app.views.capabilities import DRAWS, WRITES
from mlx_server.app.views.model_view import ModelView, all_views, find_view, gigabytes
from mlx_server.schemas.internal.generation import MediaKind
from mlx_server.schemas.internal.messages import ModelFacts
from mlx_server.schemas.mlx_gui.managed_models import AllModels, ListedModel, ModelDetails
from mlx_server.schemas.openai.chat import ChatRequest
from mlx_server.schemas.openai.common import Features, Modalities, Model
from mlx_server.schemas.openai.completions import CompletionRequest
from mlx_server.schemas.openai.embeddings import EmbeddingsRequest
from mlx_server.schemas.openai.media.images import ImageRequest
from mlx_server.schemas.openai.media.speech import SpeechCreateRequest
from mlx_server.schemas.openai.media.transcriptions import TranscriptionForm
from mlx_server.schemas.scores import SIDES, RerankRequest, ScoresRequest
from mlx_server.workers.folders.context_length import shortest
from mlx_server.workers.folders.encoder_types import SIGHTED

COMPLETIONS = (ChatRequest, CompletionRequest)
COMPARISONS = (RerankRequest, ScoresRequest)
CONTENTS: dict[Any, set[str]] = {
    ChatRequest: {"messages"},
    CompletionRequest: {"prompt"},
    EmbeddingsRequest: {"input"},
    ImageRequest: {"prompt"},
    RerankRequest: {"query", "documents"},
    ScoresRequest: {side for pair in SIDES for side in pair},
    SpeechCreateRequest: {"input"},
    TranscriptionForm: set(),
}
"""Fields that say what is asked, not how."""
VERBS = {"load": "POST", "unload": "POST", "pin": "POST", "unpin": "POST", "generate": "POST", "health": "GET, HEAD"}
"""Ends of the paths that are not models' names, and the methods that are allowed there."""

OUTPUTS = {"embeddings": ["embedding"], "rerank": ["score"], "image": ["image"]}


def describe(deployment: Deployment, found: ModelOnDisk | None = None) -> Model:
    """OpenAI's model object, and what the model can do: as its files say, or as its worker found out."""
    facts = deployment.facts
    native = facts.context_length if facts else found.context_length if found else None
    context_length = facts.max_model_len if facts else shortest(native, deployment.settings.context_length)
    media = facts.media if facts else seen(deployment.type, found)
    return Model(
        id=deployment.name,
        object="model",
        created=deployment.created,
        display_name=deployment.name,
        created_at=datetime.fromtimestamp(deployment.created, UTC),
        owned_by="mlx-server",
        status=deployment.public_state.value,
        context_length=context_length,
        max_model_len=context_length,
        context_window=context_length,
        max_input_tokens=context_length,
        native_context_length=native,
        default_max_tokens=default_max_tokens(deployment, context_length),
        modalities=modalities(deployment.type, facts, media),
        features=Features(
            tools=bool(facts.tools) if facts else None,
            structured_outputs=facts.grammars if facts else None,
            reasoning=facts.reasoning if facts else None,
            embeddings=facts.dimensions is not None if facts else None,
            rerank=facts.scoring is not None if facts else None,
            dimensions=facts.dimensions if facts else None,
        ),
        supported_parameters=list(supported_parameters(deployment.type, abilities(facts))),
        root=deployment.name,
    )


def seen(model_type: ModelType, found: ModelOnDisk | None) -> tuple[MediaKind, ...]:
    """What a model that is not loaded takes beside text, as far as its files say."""
    sees = model_type == "vlm" or (model_type == "embeddings" and found is not None and found.architecture in SIGHTED)
    return ("image",) if sees else ()


def default_max_tokens(deployment: Deployment, context_length: int | None) -> int | None:
    """How long an answer may be that sets no limit; None for a model that writes none."""
    if deployment.type not in WRITES:
        return None
    return shortest(deployment.settings.default_max_tokens, context_length)


def modalities(model_type: ModelType, facts: ModelFacts | None, media: Sequence[MediaKind]) -> Modalities:
    """What a model takes and gives; of one for sounds that is not loaded nobody knows whether it hears or speaks."""
    if model_type != "audio":
        return Modalities(["text", *media], OUTPUTS.get(model_type, ["text"]))
    hears, speaks = (facts.transcribes, facts.speaks) if facts else (True, True)
    return Modalities(["audio"] * hears + ["text"] * speaks, ["text"] * hears + ["audio"] * speaks)


class Abilities(NamedTuple):
    """What a model was found to do, as far as that is known: it makes embeddings, looks at pictures, hears, speaks."""

    embeds: bool = False
    sees: bool = False
    hears: bool = False
    speaks: bool = False


def abilities(facts: ModelFacts | None) -> Abilities:
    """Those of a model; none before it is loaded."""
    if facts is None:
        return Abilities()
    return Abilities(facts.dimensions is not None, "image" in facts.media, facts.transcribes, facts.speaks)


def requests_of(model_type: ModelType, found: Abilities) -> tuple[Any, ...]:
    """The types of requests that a model answers."""
    if model_type == "audio":
        return (TranscriptionForm,) * found.hears + (SpeechCreateRequest,) * found.speaks
    if model_type in DRAWS:
        return (ImageRequest,)
    requests: tuple[Any, ...] = COMPLETIONS if model_type in WRITES else ()
    if found.embeds or model_type == "embeddings":
        requests += (EmbeddingsRequest,)
    if found.embeds or model_type not in WRITES:
        requests += COMPARISONS
    return requests


@functools.cache
def supported_parameters(model_type: ModelType, found: Abilities) -> tuple[str, ...]:
    """The parameters that requests may have, by name: whatever the types of requests that the model answers take."""
    requests = requests_of(model_type, found)
    names = {field.encode_name for request in requests for field in msgspec.structs.fields(request)}
    # A completion's `prompt` is what is asked, so an embedding's, which is a parameter, goes unnamed beside it.
    names -= set().union(*(CONTENTS[request] for request in requests))
    refused = {"model"}
    if not found.sees:
        refused.add("image_url")
    if model_type != "rerank":
        refused.add("instruction")
    return tuple(sorted(names - refused))


def describe_view(view: ModelView) -> Model:
    """The same of a model that is not loaded: what its files say."""
    model_type: ModelType = view.settings.type or served_as(view)
    found = view.found
    native = found.context_length if found else None
    context_length = shortest(native, view.settings.context_length)
    longest = shortest(view.settings.default_max_tokens, context_length)
    return Model(
        id=view.name,
        object="model",
        created=0,
        display_name=view.name,
        created_at=datetime.fromtimestamp(0, UTC),
        owned_by="mlx-server",
        status=view.status,
        context_length=context_length,
        max_model_len=context_length,
        context_window=context_length,
        max_input_tokens=context_length,
        native_context_length=native,
        default_max_tokens=longest if model_type in WRITES else None,
        modalities=modalities(model_type, None, seen(model_type, found)),
        features=Features(None, None, None, None, None, None),
        supported_parameters=list(supported_parameters(model_type, Abilities())),
        root=view.name,
    )


def served_as(model: ModelView) -> ModelType:
    """What its files say, else text: nobody has looked at what lies in the hub's cache."""
    return model.found.kind.model_type if model.found else "lm"


async def list_models(request: Request) -> Response:
    """All models that requests may name."""
    found = await all_views(request)
    device, limit = await limits(request)
    ids: list[str | None] = [one.name for one in found] or [None]
    models = [listed(one, device, limit) for one in found]
    return json_answer(AllModels("list", list(map(object_of, found)), ids[0], ids[-1], False, models))


async def one_model(request: Request) -> Response:
    """One model by its name, which may contain slashes. Raises HTTPException for another endpoint's path."""
    _, slash, end = request.path_params["name"].rpartition("/")
    if slash and (allowed := VERBS.get(end)):
        raise HTTPException(405, headers={"Allow": allowed})
    return await (delete(request) if request.method == "DELETE" else get_model(request))


async def get_model(request: Request) -> Response:
    """All that is known of the model that a request of this name reaches: `id` is the name as asked, `root` its own."""
    name = request.path_params["name"]
    fleet = services(request).fleet
    sole = fleet.settings.sole
    reaches_sole = sole is not None and all(view.name != name for view in await fleet.available())
    model = await find_view(request, sole.public_name if sole is not None and reaches_sole else name)
    row = model.row
    answer = msgspec.structs.asdict(object_of(model)) | {"id": name, "type": model.type}
    if row is not None:
        answer["created_at"] = row.created_at
    return json_answer(
        ModelDetails(
            **answer,
            registry_id=row.id if row else None,
            name=model.name,
            path=model.path,
            version=row.version if row else None,
            memory_required_gb=gigabytes(model.required_bytes(*await limits(request))),
            use_count=model.use_count,
            last_used_at=model.last_used_at,
            updated_at=row.updated_at if row else None,
            error_message=model.error_message,
            metadata=row.metadata if row else {},
        )
    )


async def limits(request: Request) -> tuple[Device, int | None]:
    """The device that models compute on, and the bytes that they may take together."""
    fleet = services(request).fleet
    return await to_thread.run_sync(find_device), fleet.ledger.limit_bytes


def object_of(model: ModelView) -> Model:
    """OpenAI's model object."""
    if model.deployment is not None:
        return describe(model.deployment, model.found)
    return describe_view(model)


def listed(model: ModelView, device: Device, limit_bytes: int | None) -> ListedModel:
    """MLX-GUI's entry."""
    return ListedModel(
        id=model.row.id if model.row else None,
        name=model.name,
        type=model.type,
        status=model.status,
        memory_required_gb=gigabytes(model.required_bytes(device, limit_bytes)),
        use_count=model.use_count,
        last_used_at=model.last_used_at,
        created_at=model.row.created_at if model.row else None,
        size_gb=gigabytes(model.size_bytes),
        pinned=model.settings.pinned,
    )
