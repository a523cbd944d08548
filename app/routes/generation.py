"""Endpoints that generate: decode, admit, answer. The APIs differ in their decoder and their encoder only."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from starlette.requests import Request

from mlx_server.app.body import read_body
from mlx_server.app.deployment import Deployment
from mlx_server.app.encoders.openai_chat import ChatEncoder
from mlx_server.app.encoders.openai_completions import CompletionEncoder
from mlx_server.app.responder import Encoder, GenerationResponse
from mlx_server.app.settings import Settings
from mlx_server.schemas import openai_chat, openai_completions
from mlx_server.schemas.openai import HARMLESS
from mlx_server.schemas.parse import parse

UNKNOWN_HEADER = "X-Ignored-Fields"
SHOWN_UNKNOWN = 20


class EncoderClass(Protocol):
    """Makes the encoder of one answer."""

    def __call__(self, id_: str, created: int, model: str, rows: int, *, include_usage: bool) -> Encoder:
        """`rows` is the number of choices."""


OutsideRequest = openai_chat.ChatRequest | openai_completions.CompletionRequest
Endpoint = Callable[[Request], Awaitable[GenerationResponse]]


def endpoint(decoder: msgspec.json.Decoder[OutsideRequest], encoder_class: EncoderClass) -> Endpoint:
    """An endpoint for one API."""

    async def generate(request: Request) -> GenerationResponse:
        settings: Settings = request.app.state.settings
        deployment: Deployment = request.app.state.deployment
        body = await read_body(request, settings.max_body_bytes)
        given, unknown = parse(body, decoder, HARMLESS)
        include_usage = given.include_usage()
        generation = given.to_generation(settings.default_max_tokens)
        stream = bool(given.stream)
        encoder = encoder_class(
            uuid.uuid4().hex,
            int(time.time()),
            given.model or deployment.name,
            generation.rows,
            include_usage=include_usage,
        )
        ticket = deployment.queue.submit(generation, whole=not stream)
        headers = {UNKNOWN_HEADER: header_list(unknown)} if unknown else {}
        return GenerationResponse(deployment.queue, ticket, encoder, stream=stream, headers=headers)

    return generate


def header_list(names: list[str]) -> str:
    """Names that a client chose, made harmless for a header."""
    shown = [re.sub(r"[^\w.-]", "?", name, flags=re.ASCII)[:64] for name in names[:SHOWN_UNKNOWN]]
    return ", ".join(shown + ["..."] * (len(names) > SHOWN_UNKNOWN))


chat_completions = endpoint(openai_chat.decoder, ChatEncoder)  # type: ignore[arg-type]
completions = endpoint(openai_completions.decoder, CompletionEncoder)  # type: ignore[arg-type]
