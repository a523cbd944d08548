"""`POST /v1/cache/explain`: which prefix of a prompt is cached, for the tenant whose prompts they are."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.middleware.api_key import tenant_of
from mlx_server.app.routes.attachments import query_with_attachments
from mlx_server.app.routes.generation import choose, read_request
from mlx_server.app.routes.tokens import ask
from mlx_server.schemas import cache, tokens
from mlx_server.schemas.internal.messages import KeptPrefix


async def explain(request: Request) -> Response:
    """How much of a prompt would not be computed again, and where it differs from what is most alike."""
    given, ignored = await read_request(request, cache.explain_decoder, tokens.HARMLESS)
    deployment = await choose(request, given)
    question = await query_with_attachments(request, deployment, given.prefix_of(tenant_of(request, given.cache_salt)))
    answer = await ask(request, deployment, question)
    assert isinstance(answer, KeptPrefix)
    return Response(msgspec.json.encode(cache.explanation(answer)), 200, ignored_header(ignored), "application/json")
