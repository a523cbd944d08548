"""What the endpoints of one application share, each thing by its type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from starlette.websockets import WebSocket

    from mlx_server.app.batches.batch_store import BatchStore
    from mlx_server.app.batches.runner import BatchRunner
    from mlx_server.app.config.settings import Settings
    from mlx_server.app.files.file_store import FileStore
    from mlx_server.app.files.upload_store import UploadStore
    from mlx_server.app.fleet.control import Control
    from mlx_server.app.fleet.fleet import Fleet
    from mlx_server.app.hub.discovery import Hub
    from mlx_server.app.hub.downloads import Downloads
    from mlx_server.app.hub.installer import Installer
    from mlx_server.app.live.feed import Feed
    from mlx_server.app.live.recent_logs import RecentLogs
    from mlx_server.app.live.station import Station
    from mlx_server.app.machine.meter import Meter
    from mlx_server.app.media.documents import DocumentReader
    from mlx_server.app.media.picture_links import PictureLinks
    from mlx_server.app.media.reader import MediaReader
    from mlx_server.app.registry.registry import Registry
    from mlx_server.app.registry.scanning import Scanner
    from mlx_server.app.responses.background import BackgroundRuns
    from mlx_server.app.responses.kept_answers import KeptAnswers
    from mlx_server.app.responses.response_store import ResponseStore


@dataclass(frozen=True, slots=True)
class Services:
    """Made with the application; they start and stop with it."""

    fleet: Fleet
    control: Control
    metrics: CollectorRegistry
    media: MediaReader
    documents: DocumentReader
    response_store: ResponseStore | None
    background_runs: BackgroundRuns
    kept_answers: KeptAnswers
    registry: Registry
    scanner: Scanner
    hub: Hub
    installer: Installer
    downloads: Downloads
    meter: Meter
    live: Station
    feed: Feed
    recent_logs: RecentLogs
    picture_links: PictureLinks
    files: FileStore
    file_uploads: UploadStore
    batches: BatchStore
    batch_runner: BatchRunner
    uploads: Path
    """Where the files of forms lie while their requests live."""
    responses_sockets: set[WebSocket] = field(default_factory=set)
    """WebSockets of `/v1/responses` that are open."""
    benchmarked: set[str] = field(default_factory=set)
    """Models that are being measured."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.fleet.settings


def services(connection: HTTPConnection) -> Services:
    """Those of the application that a request or WebSocket came to."""
    found: Services = connection.app.state.services
    return found
