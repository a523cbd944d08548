"""The front end's process stays small and never loads MLX, whatever its worker does."""

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.running.servers import Server

MEGABYTE = 1 << 20
# What loads MLX, or takes seconds and memory to load.
HEAVY = ("libmlx", "/mlx/", "/tokenizers/", "/numpy/", "libopenblas")


def mapped_files(pid: int) -> list[str]:
    if sys.platform == "linux":
        return Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [entry.path for entry in psutil.Process(pid).memory_maps()]


def heavy_files(pid: int) -> list[str]:
    return [file for file in mapped_files(pid) if any(part in file for part in HEAVY)]


@pytest.mark.model
def test_front_end_has_not_mapped_mlx_and_its_worker_has(smollm2_server: Server) -> None:
    assert smollm2_server.complete("hi", max_tokens=1).status_code == 200
    assert heavy_files(smollm2_server.process.pid) == []
    [worker] = smollm2_server.worker_pids()
    assert any("libmlx" in file for file in mapped_files(worker))


@pytest.mark.model
def test_front_end_is_small_after_work(smollm2_server: Server) -> None:
    for stream in (False, True):
        assert smollm2_server.chat("hi", max_tokens=4, stream=stream).status_code == 200
    smollm2_server.get("/metrics")
    assert psutil.Process(smollm2_server.process.pid).memory_info().rss < 100 * MEGABYTE


def test_front_end_does_not_grow_with_requests(scripted_server: Server) -> None:
    process = psutil.Process(scripted_server.process.pid)
    for _ in range(20):
        scripted_server.chat({"tokens": 50})
    before = process.memory_info().rss
    for _ in range(100):
        assert scripted_server.chat({"tokens": 50}, stream=True).status_code == 200
    assert process.memory_info().rss - before < 8 * MEGABYTE


def test_front_end_starts_with_little_work(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=3", wait=False)
    server.wait_listening()
    spent = psutil.Process(server.process.pid).cpu_times()
    # It answers within a second where it has a processor to itself.
    assert spent.user + spent.system < 2
    assert psutil.Process(server.process.pid).memory_info().rss < 100 * MEGABYTE
