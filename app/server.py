"""The application: routes, middleware, and the deployment whose life is the application's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from mlx_server.app import errors
from mlx_server.app.deployment import Deployment, Observer
from mlx_server.app.metrics import make_registry, metrics
from mlx_server.app.middleware.api_key import ApiKeyMiddleware
from mlx_server.app.middleware.last_resort import LastResortMiddleware
from mlx_server.app.middleware.request_id import RequestIdMiddleware
from mlx_server.app.openapi import openapi
from mlx_server.app.routes import generation, health, models, queue_stats
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
]


def create_app(settings: Settings, observer: Observer | None = None) -> Starlette:
    """An application with a deployment that starts and stops with it."""
    deployment = Deployment(settings, observer)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        deployment.start()
        try:
            yield
        finally:
            await deployment.stop()

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
    return app
