"""What listeners are told of: models that come and go, downloads, the machine and the queues."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from mlx_server.app.fleet.events import ModelEvent
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.http.keys import KeyRing
from mlx_server.app.hub.downloads import Downloads
from mlx_server.app.live.station import Station, Watch
from mlx_server.app.machine.meter import Meter
from mlx_server.app.views.download_state import download_state
from mlx_server.schemas.impetus.live import LiveEvent, ModelStatus


def make_station(keys: KeyRing, meter: Meter, fleet: Fleet, downloads: Downloads) -> Station:
    """The station of one server."""
    return Station(
        keys,
        meter,
        snapshot=lambda: [*statuses(fleet), *(download_state(one) for one in downloads.all() if one.live)],
        queues=lambda: {deployment.name: deployment.queue for deployment in fleet.deployments},
        watches=[watch_models(fleet), watch_downloads(downloads)],
    )


def statuses(fleet: Fleet) -> list[ModelStatus]:
    """How the models are now."""
    now = datetime.now(UTC).isoformat()
    return [ModelStatus(one.name, one.state.value, now, error=one.error_message) for one in fleet.deployments]


def watch_models(fleet: Fleet) -> Watch:
    """Tells what models do."""

    def watch(notify: Callable[[LiveEvent], None]) -> Callable[[], None]:
        return fleet.watch(lambda event: notify(status_of(event)))

    return watch


def status_of(event: ModelEvent) -> ModelStatus:
    """A model's move, or how far its load is, in percent where that is known."""
    loading = event.loading
    percent = round(100 * loading.done / loading.total, 1) if loading is not None and loading.total else None
    return ModelStatus(
        event.model,
        event.state.value,
        event.at.isoformat(),
        progress_percent=percent,
        phase=loading.phase if loading is not None else None,
        error=event.error_message,
    )


def watch_downloads(downloads: Downloads) -> Watch:
    """Tells how far downloads are."""

    def watch(notify: Callable[[LiveEvent], None]) -> Callable[[], None]:
        return downloads.watch(lambda download: notify(download_state(download)))

    return watch
