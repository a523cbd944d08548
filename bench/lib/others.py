"""Watching for other work on the machine, which spoils a repetition without showing in its figures."""

import time
from types import TracebackType
from typing import Self

import psutil


class OthersWatch:
    """In a `with` block: how many cores, on average, processes other than this one and its children kept busy."""

    def __init__(self) -> None:
        self.cores = 0.0

    def __enter__(self) -> Self:
        self._started_s = time.perf_counter()
        self._others_s = _others_cpu_s()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        wall_s = time.perf_counter() - self._started_s
        self.cores = round(max(0.0, _others_cpu_s() - self._others_s) / wall_s, 2)


def _others_cpu_s() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' time is in user's already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests) - _own_cpu_s()


def _own_cpu_s() -> float:
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total
