"""Which processes are gone, how they go, and what they hold."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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


def held_bytes(server: Server) -> int:
    """Resident memory of a server's workers."""
    return sum(psutil.Process(pid).memory_info().rss for pid in server.worker_pids())


def most_while(server: Server, work: Callable[[], object]) -> int:
    """The most that the workers were seen to hold during that."""
    over, most = threading.Event(), [held_bytes(server)]

    def watch() -> None:
        while not over.wait(0.05):
            most.append(held_bytes(server))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            work()
        finally:
            over.set()
        watching.result()
    return max(most)
