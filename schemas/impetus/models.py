"""Finding and downloading models below `/api/models`, as Impetus has it. Sizes named `_gb` are 10**9 bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta


class PerformanceEstimate(msgspec.Struct, frozen=True):
    """Tokens a second for one request, at most: what a chip's memory bandwidth allows. Null where that is unknown."""

    tokens_per_second_m1: float | None
    tokens_per_second_m2: float | None
    tokens_per_second_m3: float | None


class DiscoveredModel(msgspec.Struct, frozen=True):
    """A model on the hub. Null means that the hub does not tell.

    `recommended_memory_gb` is the smallest machine, by its memory, that serves it well.
    """

    model_id: str
    name: str
    description: str
    size_gb: float | None
    parameters: str | None
    architecture: str | None
    quantization: str | None
    performance_estimate: PerformanceEstimate | None
    recommended_memory_gb: float | None
    tags: list[str]
    is_downloaded: bool


class HardwareCompatibility(msgspec.Struct, frozen=True):
    """What this server can compute with."""

    mlx_support: bool
    metal_support: bool


class DiscoveredModels(msgspec.Struct, frozen=True):
    """Models by how often they are downloaded; `categories` are those that may be asked for."""

    models: list[DiscoveredModel]
    total_models: int
    categories: list[str]
    hardware_compatibility: HardwareCompatibility


class DownloadRequest(msgspec.Struct, frozen=True):
    """`name` is what the model will be called here, its id on the hub if there is none."""

    model_id: Annotated[str, Meta(max_length=200)]
    auto_load: bool = False
    force_download: bool = False
    name: Annotated[str, Meta(max_length=128)] | None = None


class StartedDownload(msgspec.Struct, frozen=True):
    """What was started; `estimated_size_gb` is the size of all files."""

    model_id: str
    download_id: str
    estimated_size_gb: float | None


class DownloadStarted(msgspec.Struct, frozen=True):
    """The answer to a start."""

    success: bool
    message: str
    data: StartedDownload


class DownloadState(msgspec.Struct, frozen=True):
    """A download: `status` is waiting, downloading, completed, failed, cancelled or interrupted.

    `bytes_per_second` and `eta_seconds` are null while nobody can tell.
    """

    download_id: str
    model_id: str
    name: str
    status: str
    progress_percent: float
    done_bytes: int
    total_bytes: int
    bytes_per_second: float | None
    eta_seconds: float | None
    error: str | None
    auto_load: bool
    created_at: datetime
    updated_at: datetime


class DownloadList(msgspec.Struct, frozen=True):
    """All downloads, the newest first."""

    downloads: list[DownloadState]


download_decoder = msgspec.json.Decoder(DownloadRequest)
