"""Which server has a download under way: several may share one registry."""

from __future__ import annotations

import psutil

CLOCK_S = 2.0
"""By how much two looks at one process may differ: its time is that of the machine's start, which clocks correct."""


def owner_of(pid: int | None = None) -> str:
    """What a process is told by from others before and after it: this one, or that of `pid`. Raises psutil.Error."""
    process = psutil.Process(pid)
    return f"{process.pid} {process.create_time():.2f}"


def lives(owner: str) -> bool:
    """Whether the process of that owner runs on this machine."""
    pid, _, began = owner.partition(" ")
    try:
        process = psutil.Process(int(pid))
        same: bool = abs(process.create_time() - float(began)) < CLOCK_S
        ended: bool = process.status() == psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False
    return same and not ended
