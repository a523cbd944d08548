"""`/api/health`: Impetus' probes, with Kubernetes' meaning. Timestamps are ISO 8601, in UTC."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Healthy(msgspec.Struct, frozen=True):
    """Whether models are served, or will be."""

    status: Literal["healthy", "unhealthy"]
    timestamp: str
    version: str
    uptime_seconds: float


class Checks(msgspec.Struct, frozen=True):
    """`memory_available`: there is some; `models_loaded`: a model takes work now; `mlx_available`: MLX is installed
    with something to compute on.
    """

    memory_available: bool
    models_loaded: bool
    mlx_available: bool


class Ready(msgspec.Struct, frozen=True):
    """Whether requests may be sent here; a model that is loaded on first use need not be loaded for that."""

    ready: bool
    timestamp: str
    checks: Checks
    message: str


class Alive(msgspec.Struct, frozen=True):
    """The front end lives; `last_heartbeat` is the last one of a worker, null without workers."""

    alive: Literal[True]
    timestamp: str
    uptime_seconds: float
    last_heartbeat: str | None


class Component(msgspec.Struct, frozen=True):
    """A part of the server, and figures that tell more."""

    status: Literal["healthy", "degraded", "unhealthy"]
    details: dict[str, Any]


class Status(msgspec.Struct, frozen=True):
    """The server by its parts; it is as well as the worst of them, but for one of several models."""

    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: str
    version: str
    uptime_seconds: float
    components: dict[str, Component]
