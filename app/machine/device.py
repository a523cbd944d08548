"""What models compute on, and how much memory they may have together."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from mlx_server.app.machine import apple, nvidia
from mlx_server.app.machine.memory import memory
from mlx_server.workers.parent.environment import is_installed, mlx_backends

SHARE = 0.8
"""Of a machine's or container's memory, or of a graphics card's own; the rest is for everybody else."""

LARGE_MAC_BYTES = 36 << 30
"""Macs with this much memory recommend three quarters of it for the graphics processor, smaller ones two thirds."""


@dataclass(frozen=True)
class Device:
    """Bytes. `total_bytes` and `available_bytes` are of the memory that weights are held in. `packs`: a CPU multiplies
    with quantised weights as they are."""

    kind: Literal["cpu", "metal", "cuda"]
    total_bytes: int
    available_bytes: int
    wired_limit_bytes: int | None = None
    packs: bool = False

    @property
    def limit_bytes(self) -> int:
        """What models may take together unless somebody says otherwise.

        On Metal that is the working set which it recommends, or what `sysctl iogpu.wired_limit_mb` was set to.
        """
        if self.kind != "metal":
            return int(SHARE * self.total_bytes)
        if self.wired_limit_bytes is not None:
            return min(self.wired_limit_bytes, self.total_bytes)
        return self.total_bytes * 3 // 4 if self.total_bytes >= LARGE_MAC_BYTES else self.total_bytes * 2 // 3


def find_device() -> Device:
    """What a worker will compute on. Blocks; MLX is not loaded."""
    here = memory()
    if sys.platform == "darwin":
        return Device("metal", here.total_bytes, here.available_bytes, apple.wired_limit_bytes(apple.sysctls()))
    if "cuda" in mlx_backends() and (card := next(iter(nvidia.cards()), None)) and card.memory_total_mb:
        total, used = (int(mb * (1 << 20)) for mb in (card.memory_total_mb, card.memory_used_mb or 0.0))
        return Device("cuda", total, max(0, total - used))
    return Device("cpu", here.total_bytes, here.available_bytes, packs=is_installed("numba"))
