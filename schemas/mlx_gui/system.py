"""The server as a whole, as MLX-GUI has it.

Sizes named `_gb` are 2**30 bytes; null means unknown, or that there is none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mlx_server.schemas.mlx_gui.managed_models import ManagerSummary


class Root(msgspec.Struct, frozen=True):
    """What answers here."""

    name: str
    version: str
    status: Literal["running"]
    docs: str
    """Where a page shows all endpoints."""


class SystemMemory(msgspec.Struct, frozen=True):
    """Memory that this server may use: the machine's, or its container's where that is less."""

    total_gb: float
    available_gb: float
    used_gb: float
    percent_used: float


class GpuMemory(msgspec.Struct, frozen=True):
    """Memory that models may have on the graphics processor; on Apple silicon that is part of the machine's."""

    total_gb: float
    available_gb: float
    device_name: str | None


class SystemInfo(msgspec.Struct, frozen=True):
    """The machine. `mlx_compatible`: one of MLX's backends is installed; `backends` says which."""

    platform: str
    architecture: str
    processor: str | None
    is_apple_silicon: bool
    mlx_compatible: bool
    backends: list[str]
    memory: SystemMemory
    gpu_memory: GpuMemory | None


class SystemStatus(msgspec.Struct, frozen=True):
    """The machine and the models."""

    status: Literal["running"]
    system: SystemInfo
    model_manager: ManagerSummary
    mlx_compatible: bool


class ShuttingDown(msgspec.Struct, frozen=True):
    """What runs comes to its end first."""

    message: str


class Restarted(msgspec.Struct, frozen=True):
    """The configuration was read again; what runs goes on. Models by name, and fields that wait for the next start."""

    message: str
    added: list[str]
    removed: list[str]
    changed: list[str]
    unchanged: list[str]
    next_start: list[str]
