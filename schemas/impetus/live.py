"""What listeners at `/socket.io/` are told, event by event. Timestamps are ISO 8601, in UTC."""

from __future__ import annotations

import msgspec

from mlx_server.schemas.impetus.hardware import HardwareMetrics
from mlx_server.schemas.impetus.models import DownloadState
from mlx_server.schemas.operations import JobProgress


class ModelStatus(msgspec.Struct, frozen=True):
    """A model is loaded, unloaded, or on its way; `error` says why it failed.

    While it loads, `phase` is what is being done, and `progress_percent` how much of that, where it is known.
    """

    model_id: str
    status: str
    timestamp: str
    progress_percent: float | None = None
    phase: str | None = None
    error: str | None = None


class ModelInference(msgspec.Struct, frozen=True):
    """One model's part in the statistics; totals count since the server's start. `jobs`: how far recordings, speech
    and pictures are that have begun."""

    active_requests: int
    waiting_requests: int
    requests_total: int
    tokens_generated_total: int
    tokens_per_second: float
    mean_time_to_first_token_seconds: float | None
    jobs: list[JobProgress]


class InferenceStats(msgspec.Struct, frozen=True):
    """What the models do together, and each by itself. `tokens_per_second` is since the last event."""

    timestamp: str
    active_requests: int
    waiting_requests: int
    requests_total: int
    tokens_generated_total: int
    tokens_per_second: float
    models: dict[str, ModelInference]


LiveEvent = ModelStatus | DownloadState | InferenceStats | HardwareMetrics

NAMES: dict[type[LiveEvent], str] = {
    ModelStatus: "model_status",
    DownloadState: "download_progress",
    InferenceStats: "inference_stats",
    HardwareMetrics: "hardware_metrics",
}
"""What each event is called on the wire."""


def is_replaceable(event: LiveEvent) -> bool:
    """Whether the next event of its kind makes it worthless: a client that can't follow gets fewer of these."""
    return event.phase is not None if isinstance(event, ModelStatus) else True
