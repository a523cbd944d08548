"""How much memory there is for this server."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import psutil

from mlx_server.app.machine.sizes import GIBIBYTE
from mlx_server.schemas.impetus.hardware import MemoryInfo
from mlx_server.workers.cgroup import Limit, memory_limit


@dataclass(frozen=True)
class Memory:
    """Bytes. `available_bytes` can be had without swapping anything out."""

    total_bytes: int
    available_bytes: int

    @property
    def used_bytes(self) -> int:
        """What is not available."""
        return self.total_bytes - self.available_bytes

    def info(self) -> MemoryInfo:
        """As clients read it."""
        return MemoryInfo(
            total_gb=round(self.total_bytes / GIBIBYTE, 2),
            available_gb=round(self.available_bytes / GIBIBYTE, 2),
            used_gb=round(self.used_bytes / GIBIBYTE, 2),
            usage_percent=round(100 * self.used_bytes / self.total_bytes, 1),
        )


def within(machine: Memory, limit: Limit | None) -> Memory:
    """What is left of a machine's memory for a container."""
    if limit is None or limit.limit_bytes >= machine.total_bytes:
        return machine
    available = max(0, min(machine.available_bytes, limit.limit_bytes - limit.used_bytes))
    return Memory(limit.limit_bytes, available)


def memory() -> Memory:
    """Memory that this server may use, now."""
    machine = psutil.virtual_memory()
    return within(Memory(machine.total, machine.available), memory_limit() if sys.platform == "linux" else None)
