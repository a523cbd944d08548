"""Which processes are gone, and how they go."""

from __future__ import annotations

import contextlib
import signal

import psutil
from support.running.servers import Server


def lives(pid: int) -> bool:
    """Whether a process runs. One that nobody has buried yet does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def kill_worker(server: Server) -> None:
    """Kill a server's one worker."""
    [pid] = server.worker_pids()
    psutil.Process(pid).send_signal(signal.SIGKILL)
