"""How far a download is, as Impetus' endpoints and listeners are told."""

from mlx_server.app.hub.download import Download
from mlx_server.schemas.impetus import models as schemas


def download_state(download: Download) -> schemas.DownloadState:
    """A download as clients read it: sizes in bytes, the speed in bytes per second, the rest in seconds."""
    row, speed, rest = download.row, download.bytes_per_s, download.eta_s
    return schemas.DownloadState(
        download_id=row.id,
        model_id=row.hub_id,
        name=row.name,
        status=row.status,
        progress_percent=round(download.percent, 1),
        done_bytes=row.done_bytes,
        total_bytes=row.total_bytes,
        bytes_per_second=None if speed is None else round(speed),
        eta_seconds=None if rest is None else round(rest, 1),
        error=row.error,
        auto_load=row.auto_load,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
