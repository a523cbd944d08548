"""The application: routes, middleware, and the models whose life is the application's."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route, WebSocketRoute

from mlx_server.app.config.settings import Settings
from mlx_server.app.fleet.control import Control
from mlx_server.app.fleet.fleet import Fleet, Observe
from mlx_server.app.http import errors
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.http.services import Services
from mlx_server.app.hub.auto_load import AutoLoad
from mlx_server.app.hub.discovery import Hub
from mlx_server.app.hub.download import Download
from mlx_server.app.hub.downloads import Downloads
from mlx_server.app.hub.installer import Installer
from mlx_server.app.live.feed import Feed
from mlx_server.app.live.recent_logs import RecentLogs
from mlx_server.app.live.sources import make_station
from mlx_server.app.machine.meter import Meter
from mlx_server.app.media.document_limits import DocumentLimits
from mlx_server.app.media.documents import DocumentReader
from mlx_server.app.media.picture_links import PictureLinks
from mlx_server.app.media.reader import MediaReader
from mlx_server.app.middleware.api_key import ApiKeyMiddleware
from mlx_server.app.middleware.cors import cors
from mlx_server.app.middleware.last_resort import LastResortMiddleware
from mlx_server.app.middleware.rate_limit import RateLimitMiddleware
from mlx_server.app.middleware.request_id import RequestIdMiddleware
from mlx_server.app.middleware.tracing import TracingMiddleware, provider_of
from mlx_server.app.openapi.openapi import openapi
from mlx_server.app.registry.registry import FILE as REGISTRY_FILE
from mlx_server.app.registry.registry import Registry
from mlx_server.app.registry.scanning import Scanner
from mlx_server.app.responses.background import BackgroundRuns
from mlx_server.app.responses.kept_answers import KeptAnswers
from mlx_server.app.responses.response_store import ResponseStore
from mlx_server.app.routes import (
    anthropic,
    audio,
    cache,
    console,
    conversations,
    docs,
    generation,
    health,
    images,
    queue_stats,
    responses,
    responses_socket,
    results,
    tokens,
)
from mlx_server.app.routes.management import (
    app_settings,
    discover,
    hardware,
    impetus_health,
    impetus_loaded,
    impetus_models,
    live,
    manager,
    model_management,
    models,
    system,
)
from mlx_server.app.routes.resumable import RESUMABLE
from mlx_server.app.server import offline
from mlx_server.app.views.metrics import make_registry, metrics
from mlx_server.workers.parent.starts import WorkerStarts

ROUTES = [
    # What is asked most comes first: a path is compared with one route after the other.
    Route("/v1/chat/completions", generation.chat_completions, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/completions", generation.completions, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/embeddings", results.embeddings, methods=["POST"], middleware=RESUMABLE),
    Route("/", system.root),
    Route("/health", health.health, methods=["GET", "POST"]),
    Route("/health/live", health.live),
    Route("/health/ready", health.ready),
    Route("/metrics", metrics),
    Route("/openapi.json", openapi),
    Route("/docs", docs.page),
    Route("/docs/assets/{name}", docs.asset),
    Route("/api/docs", docs.page),
    Route("/api/docs/openapi.json", openapi),
    Route("/api/health", impetus_health.health),
    Route("/api/health/ready", impetus_health.ready),
    Route("/api/health/live", impetus_health.live),
    Route("/api/health/status", impetus_health.status),
    Route("/api/health/metrics", impetus_health.metrics),
    Route("/api/hardware/info", hardware.info),
    Route("/api/hardware/metrics", hardware.metrics),
    Route("/api/hardware/performance-mode", hardware.performance_mode, methods=["POST"]),
    Route("/api/models/list", impetus_loaded.list_loaded),
    Route("/api/models/load", impetus_loaded.load, methods=["POST"]),
    Route("/api/models/unload", impetus_loaded.unload, methods=["POST"]),
    Route("/api/models/benchmark/{model_id:path}", impetus_loaded.benchmark, methods=["POST"]),
    Route("/v1/models", models.list_models),
    Route("/v1/models/install", model_management.install, methods=["POST"]),
    Route("/v1/models/{name:path}/load", model_management.load, methods=["POST"]),
    Route("/v1/models/{name:path}/unload", model_management.unload, methods=["POST"]),
    Route("/v1/models/{name:path}/pin", model_management.pin, methods=["POST"]),
    Route("/v1/models/{name:path}/unpin", model_management.unpin, methods=["POST"]),
    Route("/v1/models/{name:path}/health", model_management.health),
    Route("/v1/models/{name:path}/generate", model_management.generate, methods=["POST"]),
    Route("/v1/models/{name:path}", models.one_model, methods=["GET", "DELETE"]),
    Route("/v1/discover/models", discover.models),
    Route("/v1/discover/popular", discover.popular),
    Route("/v1/discover/categories", discover.categories),
    Route("/v1/discover/compatible", discover.compatible),
    Route("/v1/discover/models/{id:path}", discover.details),
    Route("/v1/manager/status", manager.status),
    Route("/v1/manager/models/{name:path}/status", manager.model_status),
    Route("/v1/manager/models/{name:path}/priority", manager.set_priority, methods=["POST"]),
    Route("/v1/settings", app_settings.settings),
    Route("/v1/settings/{key}", app_settings.change, methods=["PUT"]),
    Route("/v1/system/status", system.status),
    Route("/v1/system/limits", system.limits),
    Route("/v1/system/logs", live.logs),
    Route("/v1/system/shutdown", system.shutdown, methods=["POST"]),
    Route("/v1/system/restart", system.restart, methods=["POST"]),
    Route("/v1/queue/stats", queue_stats.queue_stats),
    Route("/v1/live", live.live),
    Route("/v1/requests/{id:path}/cancel", live.cancel, methods=["POST"]),
    Route("/v1/audio/transcriptions", audio.transcriptions, methods=["POST"]),
    Route("/v1/audio/speech", audio.speech, methods=["POST"]),
    Route("/v1/audio/voices", audio.voices),
    Route("/v1/audio/translations", audio.translations, methods=["POST"]),
    Route("/v1/images/generations", images.generations, methods=["POST"]),
    Route("/v1/images/edits", images.edits, methods=["POST"]),
    Route("/v1/images/drawn/{name}", images.drawn, name="drawn_picture"),
    Route("/rerank", results.rerank, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/rerank", results.rerank, methods=["POST"], middleware=RESUMABLE),
    Route("/v2/rerank", results.rerank, methods=["POST"], middleware=RESUMABLE),
    Route("/score", results.score, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/score", results.score, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/messages", anthropic.messages, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/messages/count_tokens", anthropic.count_tokens, methods=["POST"]),
    Route("/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/v1/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/v1/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/v1/cache/explain", cache.explain, methods=["POST"]),
    Route("/v1/responses", responses.create, methods=["POST"], middleware=RESUMABLE),
    Route("/v1/responses/compact", responses.compact, methods=["POST"]),
    Route("/v1/responses/input_tokens", responses.input_tokens, methods=["POST"]),
    Route("/v1/responses/{id}", responses.one, methods=["GET", "DELETE"]),
    Route("/v1/responses/{id}/cancel", responses.cancel, methods=["POST"]),
    Route("/v1/responses/{id}/input_items", responses.input_items),
    Route("/v1/conversations", conversations.create, methods=["POST"]),
    Route("/v1/conversations/{id}", conversations.one, methods=["GET", "POST", "DELETE"]),
    Route("/v1/conversations/{id}/items", conversations.items, methods=["GET", "POST"]),
    Route("/v1/conversations/{id}/items/{item}", conversations.one_item, methods=["GET", "DELETE"]),
    *offline.ROUTES,
    Route("/api/models/discover", impetus_models.discover),
    Route("/api/models/download", impetus_models.download, methods=["POST"]),
    Route("/api/models/downloads", impetus_models.downloads),
    Route("/api/models/downloads/{id}", impetus_models.one_download, methods=["GET", "DELETE"]),
]


def create_app(
    settings: Settings,
    observe: Observe | None = None,
    reread: Callable[[], Settings] | None = None,
    starts: WorkerStarts | None = None,
) -> Starlette:
    """An application with models that start and stop with it; `starts` may have begun with the first.

    Raises StoreError, NotServable, TracingMissing or ValueError.
    """
    tracing = provider_of(settings)
    store = open_store(settings)
    kept = offline.Offline.open(settings)
    runs = BackgroundRuns()
    kept_answers = KeptAnswers(settings.resume_s)
    keys = KeyRing(settings.api_keys)
    registry = Registry.open(settings.data_dir / REGISTRY_FILE)
    scanner = Scanner(registry, [settings.models_dir] if settings.models_dir else [])
    fleet = Fleet(settings, observe, reread, registry, starts)
    installer = Installer(registry)

    async def installed(download: Download) -> None:
        await installer.installed(download)
        fleet.add_installed(download.row.name)

    downloads = Downloads(settings.hub, registry, installed=installed)
    meter = Meter()
    uploads = Path(mkdtemp(prefix="mlx-server-uploads-"))
    station = make_station(keys, meter, fleet, downloads)
    answered: Counter[int] = Counter()
    feed = Feed(fleet, keys, answered)
    recent_logs = RecentLogs()
    auto_load = AutoLoad(fleet.load)
    downloads.watch(auto_load.changed)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        logging.getLogger().addHandler(recent_logs)
        await hardware.restore_mode(registry, fleet.tuning)
        fleet.start()
        feed.start()
        await downloads.open()
        kept.start()
        batch_runner.start()
        if settings.sole is None:
            scanner.start()
        try:
            yield
        finally:
            logging.getLogger().removeHandler(recent_logs)
            await batch_runner.close()
            await station.close()
            feed.close()
            await kept_answers.close()
            await downloads.close()
            await auto_load.close()
            await fleet.stop()
            await runs.close()
            await scanner.close()
            await kept.close()
            registry.close()
            shutil.rmtree(uploads, ignore_errors=True)
            if store is not None:
                store.close()
            if tracing is not None:
                await to_thread.run_sync(tracing.shutdown)

    app = Starlette(
        routes=[
            *ROUTES,
            WebSocketRoute("/v1/responses", responses_socket.converse),
            Mount("/console", console.ConsoleFiles()),
            Mount("/socket.io", station),
        ],
        middleware=[
            Middleware(RequestIdMiddleware, answered=answered),
            *([Middleware(TracingMiddleware, provider=tracing)] if tracing is not None else []),
            *cors(settings.cors_origins),
            Middleware(LastResortMiddleware),
            *([Middleware(RateLimitMiddleware, keys=keys, rates=settings.rate_limit)] if settings.rate_limit else []),
            Middleware(ApiKeyMiddleware, keys=keys),
        ],
        exception_handlers=errors.HANDLERS,
        lifespan=lifespan,
    )
    batch_runner = offline.runner_for(app, kept, fleet, keys)
    app.state.services = Services(
        fleet=fleet,
        control=Control(fleet, lambda applied: keys.update(applied.api_keys)),
        metrics=make_registry(fleet),
        media=MediaReader(settings.media, settings.max_body_bytes, files=kept.files),
        documents=DocumentReader(
            settings.media_limits.decode_s,
            DocumentLimits(settings.media.max_files, settings.media_limits.image_pixels, settings.max_body_bytes),
        ),
        response_store=store,
        background_runs=runs,
        kept_answers=kept_answers,
        registry=registry,
        scanner=scanner,
        hub=Hub(settings.hub),
        installer=installer,
        downloads=downloads,
        meter=meter,
        live=station,
        feed=feed,
        recent_logs=recent_logs,
        picture_links=PictureLinks(uploads),
        files=kept.files,
        file_uploads=kept.uploads,
        batches=kept.batches,
        batch_runner=batch_runner,
        uploads=uploads,
    )
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
