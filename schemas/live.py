"""What listeners at `/socket.io/` are told, event by event. Timestamps are ISO 8601, in UTC."""

from __future__ import annotations

import msgspec

from mlx_server.schemas.hardware import HardwareMetrics


class ModelStatus(msgspec.Struct, frozen=True):
    """A model is loaded, unloaded, or on its way; `error` says why it failed."""

    model_id: str
    status: str
    timestamp: str
    error: str | None = None


class DownloadProgress(msgspec.Struct, frozen=True):
    """A download goes on, or has ended: `status` says how. What is not known yet is null."""

    download_id: str
    model_id: str
    status: str
    progress_percent: float | None
    downloaded_bytes: int
    total_bytes: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    timestamp: str
    error: str | None = None


class ModelInference(msgspec.Struct, frozen=True):
    """One model's part in the statistics; totals count since the server's start."""

    active_requests: int
    waiting_requests: int
    requests_total: int
    tokens_generated_total: int
    tokens_per_second: float
    mean_time_to_first_token_seconds: float | None


class InferenceStats(msgspec.Struct, frozen=True):
    """What the models do together, and each by itself. `tokens_per_second` is since the last event."""

    timestamp: str
    active_requests: int
    waiting_requests: int
    requests_total: int
    tokens_generated_total: int
    tokens_per_second: float
    models: dict[str, ModelInference]


LiveEvent = ModelStatus | DownloadProgress | InferenceStats | HardwareMetrics

NAMES: dict[type[LiveEvent], str] = {
    ModelStatus: "model_status",
    DownloadProgress: "download_progress",
    InferenceStats: "inference_stats",
    HardwareMetrics: "hardware_metrics",
}
"""What each event is called on the wire."""

REPLACEABLE = (DownloadProgress, InferenceStats, HardwareMetrics)
"""Events that the next of their kind makes worthless: a client that can't follow gets fewer of them."""
