"""What a server's processes hold from moment to moment."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from lib.processes import ServerProcess
from mixed_load import SWITCHED
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment: seconds since the start, resident MB, descriptors, asyncio's tasks."""

    seconds: float
    megabytes: float
    descriptors: int
    tasks: int


class Watch:
    """Samples a server's front end and workers, each life of a worker by itself."""

    def __init__(self, server: ServerProcess, told: Path) -> None:
        self._server = server
        self._told = told
        self._began = time.monotonic()
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def look(self) -> dict[str, Sample]:
        """Sample all processes now. Blocks for a moment."""
        found = {}
        for name, pid in self._pids().items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                megabytes = process.memory_info().rss / (1 << 20)
                found[name] = Sample(self.seconds, round(megabytes, 2), process.num_fds(), self._tasks(process))
                self.samples[name].append(found[name])
        return found

    def kept_mb(self) -> dict[str, float]:
        """What the prompts take that the models keep which are always loaded."""
        families = text_string_to_metric_families(self._get("metrics").decode())
        [memory] = [family for family in families if family.name == "mlx_server_worker_memory_bytes"]
        return {
            sample.labels["model"]: sample.value / (1 << 20)
            for sample in memory.samples
            if sample.labels["purpose"] == "prompts" and sample.labels["model"] not in SWITCHED
        }

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._server.url.removesuffix("v1") + path, timeout=30) as answer:
            return bytes(answer.read())

    def _pids(self) -> dict[str, int]:
        loaded = json.loads(self._get("v1/manager/status"))["loaded_models"]
        workers = {f"{name} {pid}": int(pid) for name, held in loaded.items() for pid in held["pids"]}
        return {"front end": self._server.pid, **workers}

    def _tasks(self, process: psutil.Process) -> int:
        """As it says itself, when asked; the answer to the last question will do."""
        told = self._told / str(process.pid)
        process.send_signal(signal.SIGUSR2)
        return int(told.read_text()) if told.exists() else 0
