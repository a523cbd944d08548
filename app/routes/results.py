"""`/v1/embeddings`, `/v1/rerank` and `/v1/score`: decode, admit, answer."""

from __future__ import annotations

from msgspec.structs import replace
from starlette.requests import Request

from mlx_server.app.deployment.deployment import Deployment
from mlx_server.app.encoders.openai_embeddings import EmbeddingsEncoder
from mlx_server.app.encoders.scores import HowScored, RerankEncoder, ScoresEncoder
from mlx_server.app.http.admission import enqueue
from mlx_server.app.http.array_response import ResultsEncoder, ResultsResponse
from mlx_server.app.http.ignored import ignored_header
from mlx_server.app.middleware.api_key import tenant_of
from mlx_server.app.routes.generation import choose_free, make_head, read_request, settled
from mlx_server.schemas import scores
from mlx_server.schemas.internal.work import Work
from mlx_server.schemas.openai import embeddings as openai_embeddings


async def embeddings(request: Request) -> ResultsResponse:
    """A vector for each input."""
    given, ignored = await read_request(request, openai_embeddings.decoder, openai_embeddings.HARMLESS)
    deployment = await choose_free(request, given)
    encoder = EmbeddingsEncoder(make_head(request, deployment, given), given)
    work = replace(given.to_work(), tenant=tenant_of(request))
    return await admit(request, deployment, work, encoder, ignored)


async def rerank(request: Request) -> ResultsResponse:
    """Documents by their relevance to a query."""
    given, ignored = await read_request(request, scores.rerank_decoder, scores.HARMLESS)
    deployment = await choose_free(request, given)
    encoder = RerankEncoder(make_head(request, deployment, given), given, how_scored(deployment))
    return await admit(request, deployment, given.to_work(), encoder, ignored)


async def score(request: Request) -> ResultsResponse:
    """The relevance of texts to each other."""
    given, ignored = await read_request(request, scores.score_decoder, scores.HARMLESS)
    deployment = await choose_free(request, given)
    encoder = ScoresEncoder(make_head(request, deployment, given), how_scored(deployment))
    return await admit(request, deployment, given.to_work(), encoder, ignored)


async def admit(
    request: Request, deployment: Deployment, work: Work, encoder: ResultsEncoder, ignored: list[str]
) -> ResultsResponse:
    """Queue a request and answer it. Raises InvalidRequest, QueueFull or QueueClosed, or ClientDisconnect."""
    queue, work_now = await settled(request, deployment, lambda _: work)
    return ResultsResponse(queue, enqueue(request, queue, work_now, whole=True), encoder, ignored_header(ignored))


def how_scored(deployment: Deployment) -> HowScored:
    """A function that gives the model's way of scoring: it may still be loading."""

    def method() -> scores.Method:
        facts = deployment.current.facts
        assert facts is not None
        assert facts.scoring is not None
        return facts.scoring

    return method
