"""What this machine does: load between two readings."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil
from anyio import to_thread

from mlx_server.app.machine import apple, nvidia
from mlx_server.app.machine.info import CoreKinds, core_kinds, thermal
from mlx_server.app.machine.memory import memory
from mlx_server.app.machine.processes import descendants
from mlx_server.schemas.impetus.hardware import CpuMetrics, GpuMetrics, HardwareMetrics, MemoryInfo, ProcessMetrics

MEGABYTE = 1 << 20
SHORTEST_S = 0.2
"""Load is measured over at least this time, and over no more than `LONGEST_S`."""
LONGEST_S = 15.0


@dataclass(frozen=True)
class Reading:
    """Seconds since the start: of work and of all time for each core, and of work of each process of this server."""

    at: float
    cores: Sequence[tuple[float, float]]
    processes: dict[int, float]


class Meter:
    """Keeps the last reading. A first one alone says nothing of load, so the first answer takes a moment longer."""

    def __init__(self) -> None:
        self._last: Reading | None = None
        self._kinds: CoreKinds | None = None
        self._has_kinds = False
        self._reading = asyncio.Lock()

    async def metrics(self) -> HardwareMetrics:
        """The machine now."""
        async with self._reading:
            if self._last is None or not SHORTEST_S <= time.monotonic() - self._last.at <= LONGEST_S:
                self._last = await to_thread.run_sync(take_reading)
                await asyncio.sleep(SHORTEST_S)
            if not self._has_kinds:
                self._kinds = await to_thread.run_sync(core_kinds)
                self._has_kinds = True
            before, self._last = self._last, await to_thread.run_sync(take_reading)
            return await to_thread.run_sync(describe, before, self._last, self._kinds)


def take_reading() -> Reading:
    """Now. Blocks."""
    cores = []
    for times in psutil.cpu_times(percpu=True):
        # What Linux counts for guests is in `user` and `nice` already.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        cores.append((total - times.idle - getattr(times, "iowait", 0.0), total))
    spent = {}
    for process in server_processes():
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        spent[process.pid] = used.user + used.system
    return Reading(time.monotonic(), cores, spent)


def server_processes() -> Iterator[psutil.Process]:
    """The front end and all that it has started."""
    own = psutil.Process()
    yield own
    yield from descendants(own)


def core_percents(before: Reading, after: Reading) -> list[float]:
    """How busy each core was between two readings."""
    percents = []
    for (busy_before, total_before), (busy, total) in zip(before.cores, after.cores, strict=False):
        passed = total - total_before
        percents.append(round(min(100.0, max(0.0, 100 * (busy - busy_before) / passed)), 1) if passed > 0 else 0.0)
    return percents


def process_percent(before: Reading, after: Reading) -> float:
    """How busy the server's processes were; 100 is one core. Those that ended in between don't count."""
    passed = after.at - before.at
    spent = sum(seconds - before.processes.get(pid, seconds) for pid, seconds in after.processes.items())
    return round(100 * spent / passed, 1) if passed > 0 else 0.0


def describe(before: Reading, after: Reading, kinds: CoreKinds | None) -> HardwareMetrics:
    """The machine between two readings, as clients read it. Blocks."""
    cores = core_percents(before, after)
    now = memory().info()
    return HardwareMetrics(
        timestamp=datetime.now(UTC).isoformat(),
        cpu=CpuMetrics(
            usage_percent=round(sum(cores) / len(cores), 1) if cores else 0.0,
            core_usage=cores,
            performance_core_usage=of_cores(cores, kinds.performance) if kinds else None,
            efficiency_core_usage=of_cores(cores, kinds.efficiency) if kinds else None,
            frequency_ghz=frequencies_ghz(),
            load_average=[round(load, 2) for load in os.getloadavg()],
        ),
        memory=now,
        thermal=thermal(),
        metal=gpu_metrics(now),
        process=process_metrics(process_percent(before, after), now),
    )


def of_cores(percents: Sequence[float], cores: Sequence[int]) -> list[float]:
    """The load of some of the cores."""
    return [percents[core] for core in cores if core < len(percents)]


def frequencies_ghz() -> list[float] | None:
    """Each core's frequency; None on macOS, which tells only the highest."""
    if sys.platform == "darwin":
        return None
    try:
        frequencies = [round(frequency.current / 1000, 2) for frequency in psutil.cpu_freq(percpu=True)]
    except (OSError, RuntimeError, NotImplementedError):
        return None
    return frequencies if any(frequencies) else None


def gpu_metrics(now: MemoryInfo) -> GpuMetrics:
    """The graphics processor's load. Blocks."""
    if sys.platform == "darwin":
        found = apple.accelerator()
        return apple_load(found, now.total_gb * 1024) if found else GpuMetrics(None, None, None, None, None)
    cards = nvidia.cards()
    if not cards:
        return GpuMetrics(None, None, None, None, None)
    return gpu_load(cards[0].utilization_percent, cards[0].memory_used_mb, cards[0].memory_total_mb)


def gpu_utilization() -> float | None:
    """How busy the graphics processor is now, in percent; None where nobody tells. Blocks."""
    return gpu_metrics(memory().info()).gpu_utilization_percent


def apple_load(found: apple.Accelerator, total_mb: float) -> GpuMetrics:
    """Of a chip that shares the machine's memory."""
    used = None if found.used_bytes is None else found.used_bytes / MEGABYTE
    return gpu_load(found.utilization_percent, used, total_mb)


def gpu_load(utilization: float | None, used_mb: float | None, total_mb: float | None) -> GpuMetrics:
    """What is known, and what follows from it."""
    share = round(100 * used_mb / total_mb, 1) if used_mb is not None and total_mb else None
    rounded = [None if value is None else round(value, 1) for value in (used_mb, total_mb)]
    return GpuMetrics(utilization, rounded[0], rounded[1], share, None)


def process_metrics(cpu_percent: float, now: MemoryInfo) -> ProcessMetrics:
    """The server's processes. Blocks."""
    used, threads, files = 0, 0, 0
    for process in server_processes():
        try:
            with process.oneshot():
                used += process.memory_info().rss
                threads += process.num_threads()
                files += process.num_fds()
        except psutil.Error:
            continue
    own = psutil.Process()
    return ProcessMetrics(
        pid=own.pid,
        cpu_percent=cpu_percent,
        memory_mb=round(used / MEGABYTE, 1),
        memory_percent=round(100 * used / MEGABYTE / 1024 / now.total_gb, 1),
        threads=threads,
        file_descriptors=files,
        uptime_seconds=round(time.time() - own.create_time(), 1),
    )
