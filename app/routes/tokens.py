"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.deployment.query_queue import Answer
from mlx_server.app.http.disconnect import cancel_on_disconnect
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.middleware.api_key import tenant_of
from mlx_server.app.routes.attachments import query_with_attachments
from mlx_server.app.routes.generation import choose, read_request
from mlx_server.schemas import tokens
from mlx_server.schemas.internal.messages import Decoded, Question, TextOf, Tokens, TokensOf


async def tokenize(request: Request) -> Response:
    """The tokens of a text or of a conversation."""
    given, ignored = await read_request(request, tokens.tokenize_decoder, tokens.HARMLESS)
    deployment = await choose(request, given)
    found = await ask_tokens(request, deployment, given.question())
    longest = deployment.facts.max_model_len if deployment.facts else None
    pieces = found.pieces if given.return_token_strs else None
    answer = tokens.TokenizeAnswer(found.count, longest, found.ids, pieces)
    return Response(msgspec.json.encode(answer), 200, ignored_header(ignored), "application/json")


async def detokenize(request: Request) -> Response:
    """The text of tokens."""
    given, ignored = await read_request(request, tokens.detokenize_decoder, tokens.HARMLESS)
    answer = await ask(request, await choose(request, given), TextOf(given.tokens))
    assert isinstance(answer, Decoded)
    return Response(
        msgspec.json.encode(tokens.DetokenizeAnswer(answer.text)), 200, ignored_header(ignored), "application/json"
    )


async def ask_tokens(request: Request, deployment: Deployment, question: TokensOf) -> Tokens:
    """What the worker's tokenizer makes of a prompt. Raises InvalidRequest and what `ask` raises."""
    question = replace(question, tenant=tenant_of(request))
    answer = await ask(request, deployment, await query_with_attachments(request, deployment, question))
    assert isinstance(answer, Tokens)
    return answer


async def ask(request: Request, deployment: Deployment, question: Question) -> Answer:
    """The worker's answer. Raises QueueFull, QueueClosed, Unanswered, or ClientDisconnect once nobody waits for it."""
    return await cancel_on_disconnect(request, deployment.current.queries.ask(question))
