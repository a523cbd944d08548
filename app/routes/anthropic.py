"""Anthropic's endpoints: messages, and how many tokens they would have."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.encoders.anthropic import encoder_for
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.routes.generation import choose, endpoint, read_request
from mlx_server.app.routes.tokens import ask_tokens
from mlx_server.schemas.anthropic import requests as anthropic
from mlx_server.schemas.internal.messages import TokensOf


async def count_tokens(request: Request) -> Response:
    """The tokens of a prompt, exactly as `/v1/messages` would have them."""
    given, unknown = await read_request(request, anthropic.count_decoder, anthropic.HARMLESS)
    asked = given.asked()
    deployment = await choose(request, given)
    tokens = await ask_tokens(request, deployment, TokensOf(asked.prompt, asked.tool_use, "count"))
    ignored = ignored_header((*unknown, *given.ignored(asked)))
    return Response(msgspec.json.encode(anthropic.TokenCount(tokens.count)), 200, ignored, "application/json")


messages = endpoint(anthropic.decoder, encoder_for, anthropic.HARMLESS)
