"""The application: routes, middleware, and the deployment whose life is the application's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from mlx_server.app import errors
from mlx_server.app.background import BackgroundRuns
from mlx_server.app.deployment import Deployment, Observer
from mlx_server.app.media.reader import MediaReader
from mlx_server.app.metrics import make_registry, metrics
from mlx_server.app.middleware.api_key import ApiKeyMiddleware
from mlx_server.app.middleware.last_resort import LastResortMiddleware
from mlx_server.app.middleware.request_id import RequestIdMiddleware
from mlx_server.app.openapi import openapi
from mlx_server.app.response_store import ResponseStore
from mlx_server.app.routes import anthropic, cache, generation, health, models, queue_stats, responses, results, tokens
from mlx_server.app.settings import Settings

ROUTES = [
    Route("/health", health.health, methods=["GET", "POST"]),
    Route("/health/live", health.live),
    Route("/health/ready", health.ready),
    Route("/metrics", metrics),
    Route("/openapi.json", openapi),
    Route("/v1/models", models.list_models),
    Route("/v1/models/{id:path}", models.get_model),
    Route("/v1/queue/stats", queue_stats.queue_stats),
    Route("/v1/chat/completions", generation.chat_completions, methods=["POST"]),
    Route("/v1/completions", generation.completions, methods=["POST"]),
    Route("/v1/embeddings", results.embeddings, methods=["POST"]),
    Route("/rerank", results.rerank, methods=["POST"]),
    Route("/v1/rerank", results.rerank, methods=["POST"]),
    Route("/v2/rerank", results.rerank, methods=["POST"]),
    Route("/score", results.score, methods=["POST"]),
    Route("/v1/score", results.score, methods=["POST"]),
    Route("/v1/messages", anthropic.messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", anthropic.count_tokens, methods=["POST"]),
    Route("/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/v1/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/v1/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/v1/cache/explain", cache.explain, methods=["POST"]),
    Route("/v1/responses", responses.create, methods=["POST"]),
    Route("/v1/responses/{id}", responses.one, methods=["GET", "DELETE"]),
    Route("/v1/responses/{id}/cancel", responses.cancel, methods=["POST"]),
    Route("/v1/responses/{id}/input_items", responses.input_items),
]


def create_app(settings: Settings, observer: Observer | None = None) -> Starlette:
    """An application with a deployment that starts and stops with it. Raises StoreError."""
    deployment = Deployment(settings, observer)
    store = open_store(settings)
    runs = BackgroundRuns()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        deployment.start()
        try:
            yield
        finally:
            await deployment.stop()
            await runs.close()
            if store is not None:
                store.close()

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(RequestIdMiddleware),
            Middleware(LastResortMiddleware),
            Middleware(ApiKeyMiddleware, keys=settings.api_keys),
        ],
        exception_handlers=errors.HANDLERS,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.deployment = deployment
    app.state.metrics = make_registry(deployment)
    app.state.media = MediaReader(settings.media, settings.max_body_bytes)
    app.state.response_store = store
    app.state.background_runs = runs
    return app


def open_store(settings: Settings) -> ResponseStore | None:
    """Where responses are kept, or None if they are not. Raises StoreError."""
    if settings.response_store == "off":
        return None
    return ResponseStore(
        settings.data_dir / "responses.sqlite3" if settings.response_store == "disk" else None,
        max_bytes=settings.response_store_max_bytes,
        max_age_s=settings.response_store_max_age_s,
    )
