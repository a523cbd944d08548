"""Endpoints that generate: decode, admit, answer. The APIs differ in their decoder and their encoder only."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from anyio import to_thread
from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_chat import ChatEncoder
from mlx_server.app.encoders.openai_completions import CompletionEncoder
from mlx_server.app.http.access_record import record_of
from mlx_server.app.http.admission import check_room, enqueue
from mlx_server.app.http.body import read_body
from mlx_server.app.http.in_process import ANSWER_ID
from mlx_server.app.http.keepalive import Keepalive
from mlx_server.app.http.responder import Encoder, GenerationResponse
from mlx_server.app.http.services import services
from mlx_server.app.middleware.api_key import tenant_of
from mlx_server.app.routes.attachments import with_attachments
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import NO_LIMIT, GenerationRequest
from mlx_server.schemas.internal.work import Work
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.parse import parse
from mlx_server.schemas.parsing.unknown_fields import refuse_unknown

PERFORMANCE_HEADER = "X-Performance-Metrics"
PROGRESS_HEADER = "X-Include-Progress"

LARGE_BYTES = 1 << 18
"""Larger bodies are decoded in a thread, beside everybody's streams."""


class Named(Protocol):
    """A request that may name a model."""

    @property
    def model(self) -> str | None:
        """The name that the client gave the model."""


class OutsideRequest(Named, Protocol):
    """A client's request for text, in any API."""

    @property
    def stream(self) -> bool | None:
        """Whether the answer is wanted as a stream."""

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""


Outside = TypeVar("Outside", bound=OutsideRequest)
Body = TypeVar("Body")
Keep = Callable[[bytes], Awaitable[bytes]]
Endpoint = Callable[[Request], Awaitable[GenerationResponse]]


def endpoint(
    decoder: msgspec.json.Decoder[Outside],
    encoder_class: Callable[[Head, Outside], Encoder],
    harmless: dict[str, tuple[Any, ...]] = HARMLESS,
) -> Endpoint:
    """An endpoint for one API."""

    async def generate(request: Request) -> GenerationResponse:
        given, ignored = await read_request(request, decoder, harmless)
        deployment = await choose_free(request, given)
        encoder = encoder_class(make_head(request, deployment, given), given)
        return await admit(request, deployment, given, encoder, ignored)

    return generate


async def read_request(
    request: Request, decoder: msgspec.json.Decoder[Body], harmless: dict[str, tuple[Any, ...]]
) -> tuple[Body, list[str]]:
    """The outside request, and the paths of its fields that nobody knows. Raises InvalidRequest."""
    settings = services(request).settings
    body = await read_body(request, settings.max_body_bytes)
    if len(body) > LARGE_BYTES:
        given, unknown = await to_thread.run_sync(parse, body, decoder, harmless)
    else:
        given, unknown = parse(body, decoder, harmless)
    if settings.strict_params:
        refuse_unknown(unknown)
    return given, unknown


async def choose(request: Request, given: Named) -> Deployment:
    """The model that a request is for. Raises what the fleet's `choose` raises."""
    fleet = services(request).fleet
    deployment = await fleet.choose(given.model)
    record_of(request.scope).model = deployment.name
    return deployment


async def choose_free(request: Request, given: Named) -> Deployment:
    """The same for a request that is to be queued: a full queue refuses it before more work is put into it.

    Raises QueueFull or QueueClosed too, and what `priority_of` raises.
    """
    deployment = await choose(request, given)
    check_room(request, deployment.current.queue)
    return deployment


def make_head(request: Request, deployment: Deployment, given: Named) -> Head:
    """The id, time and model that the answer will carry; who asks again within this process may fix the id."""
    return Head(
        request.scope.get(ANSWER_ID) or uuid.uuid4().hex,
        int(time.time()),
        given.model or deployment.name,
        deployment,
        has_flag(request, PERFORMANCE_HEADER),
        request.scope.get("request_id"),
    )


def has_flag(request: Request, header: str) -> bool:
    """Whether a header of a request says yes."""
    return request.headers.get(header, "").lower() in ("1", "true", "yes")


async def admit(
    request: Request,
    deployment: Deployment,
    given: OutsideRequest,
    encoder: Encoder,
    ignored: list[str],
    keep: Keep | None = None,
) -> GenerationResponse:
    """Queue a request and answer it; `keep` is the responder's. Raises InvalidRequest, QueueFull or QueueClosed."""
    queue, ticket = await submit(request, deployment, given)
    settings = services(request).settings
    keepalive = Keepalive(queue, ticket, settings.keepalive_s) if given.stream else None
    return GenerationResponse(queue, ticket, encoder, keepalive, ignored=ignored, keep=keep)


async def submit(request: Request, deployment: Deployment, given: OutsideRequest) -> tuple[Dispatcher, Ticket]:
    """Queue a request. Raises InvalidRequest, QueueFull or QueueClosed, or ClientDisconnect."""

    def work(deployment: Deployment) -> GenerationRequest:
        longest = deployment.settings.default_max_tokens or NO_LIMIT
        generation = deployment.settle(given.to_generation(longest))
        progress = bool(given.stream) and (generation.progress or has_flag(request, PROGRESS_HEADER))
        return replace(generation, tenant=tenant_of(request, generation.salt), progress=progress)

    queue, attached = await settled(request, deployment, work)
    return queue, enqueue(request, queue, attached, whole=not given.stream)


async def settled(
    request: Request, deployment: Deployment, work: Callable[[Deployment], Work]
) -> tuple[Dispatcher, Work]:
    """The queue of the model's current deployment, and the work as this deployment settles it, to be queued at once.

    Raises InvalidRequest, QueueFull or QueueClosed, or ClientDisconnect.
    """
    while True:
        deployment = deployment.current
        attached = await with_attachments(request, deployment, work(deployment))
        if deployment.current is deployment:
            return deployment.queue, attached


chat_completions = endpoint(openai_chat.decoder, ChatEncoder)
completions = endpoint(openai_completions.decoder, CompletionEncoder)
