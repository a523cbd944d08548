"""What worker processes occupy, as the server counts it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.running.fleets import settings_of, started

from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.deployment.process_memory import PURPOSES, by_purpose, occupied_bytes, resident_bytes
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.schemas.internal.messages import MlxMemory

PARENT = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "b = bytes(range(256)) * 200_000; print(1, flush=True); input()"],
    stdin=sys.stdin, stdout=sys.stdout).wait())
"""


def test_what_a_process_started_counts_as_its_own() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"1\n"
        own = psutil.Process(parent.pid).memory_info().rss
        assert resident_bytes(parent.pid) > own + 50_000_000
        parent.communicate(b"\n")
    assert resident_bytes(parent.pid) == 0


def test_a_process_counts_also_where_those_that_it_started_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_: psutil.Process, *, recursive: bool) -> list[psutil.Process]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "children", hidden)  # as where /proc is mounted with `hidepid`
    assert resident_bytes(os.getpid()) > 10_000_000


@pytest.mark.parametrize(
    ("mlx", "expected"),
    [
        (None, 100),
        (MlxMemory(50, 500, unified=True), 100),
        (MlxMemory(300, 500, unified=True), 300),
        (MlxMemory(300, 500, unified=False), 100),
    ],
)
def test_arrays_that_are_not_resident_count_where_they_take_the_machines_memory(
    mlx: MlxMemory | None, expected: int
) -> None:
    assert occupied_bytes(100, mlx) == expected


@pytest.mark.model
def test_a_deployment_occupies_what_its_workers_do(tiny_model: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        fleet = Fleet(settings_of(ModelSettings(str(tiny_model("llama")), "lm", "tiny")))
        async with started(fleet):
            deployment = await fleet.load("tiny")
            [pid] = deployment.pids
            assert deployment.facts is not None
            assert deployment.facts.parameter_bytes < deployment.memory_bytes()
            assert deployment.memory_bytes() > psutil.Process(pid).memory_info().rss // 2
        assert (deployment.pids, deployment.memory_bytes()) == ([], 0)

    asyncio.run(scenario())


def test_a_workers_memory_is_told_by_purpose() -> None:
    mlx = MlxMemory(active=1000, cache=50, unified=True, prompts=200, features=30)
    found = by_purpose(os.getpid(), mlx, 600)
    assert found.keys() == set(PURPOSES)
    rest = found.pop("rest")
    assert found == {"weights": 600, "prompts": 200, "features": 30, "running": 170, "mlx_cache": 50}
    assert 1 << 20 < rest <= resident_bytes(os.getpid())


def test_a_gpus_memory_is_no_part_of_the_process() -> None:
    mlx = MlxMemory(active=1 << 50, cache=1 << 50, unified=False)
    assert by_purpose(os.getpid(), mlx, 1 << 49)["rest"] > 1 << 20
