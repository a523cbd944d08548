"""Which processes are gone."""

from __future__ import annotations

import contextlib

import psutil


def lives(pid: int) -> bool:
    """Whether a process runs. One that nobody has buried yet does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
