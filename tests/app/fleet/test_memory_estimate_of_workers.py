"""Estimates of memory against what real workers hold."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.running.processes import held_bytes, most_while
from support.running.servers import SCRIPTED, Server

from mlx_server.app.catalog.model_folder import read_model
from mlx_server.app.fleet.memory_estimate import MemoryEstimate, Serving, estimate_of, scripted_estimate
from mlx_server.app.machine.device import find_device

Launch = Callable[..., Server]

TIMES = 6
"""How far above the truth an estimate may be for the smallest models, of which nearly all is a worker's own."""


def need_on_this_machine(path: Path, model_type: str, rows: int) -> MemoryEstimate:
    return estimate_of(read_model(path), Serving(model_type, rows), find_device())


def assert_bounds(need: MemoryEstimate, held: int) -> None:
    assert held <= need.total <= TIMES * held


def test_scripted_worker_holds_less_than_its_estimate(launch: Launch) -> None:
    assert_bounds(scripted_estimate(1), held_bytes(launch(*SCRIPTED)))


@pytest.mark.model
def test_tiny_writer_holds_less_than_its_estimate(launch: Launch, tiny_model: Callable[[str], Path]) -> None:
    path = tiny_model("llama")
    server = launch("--model-path", path)

    def write(number: int) -> int:
        return server.chat(f"{number} " + "word " * 40, max_tokens=32).status_code

    with ThreadPoolExecutor(8) as pool:
        held = most_while(server, lambda: list(pool.map(write, range(8))))
    assert_bounds(need_on_this_machine(path, "lm", 8), held)


@pytest.mark.model
def test_writer_holds_less_than_its_estimate(launch: Launch, smollm2: Path) -> None:
    server = launch("--model-path", smollm2)
    held = most_while(server, lambda: server.chat("word " * 150, max_tokens=8).raise_for_status())
    assert_bounds(need_on_this_machine(smollm2, "lm", 8), held)


@pytest.mark.model
def test_embedder_holds_less_than_its_estimate(launch: Launch, minilm: Path) -> None:
    server = launch("--model-path", minilm, "--model-type", "embeddings")
    body = {"input": [f"{number} " + "word " * 100 for number in range(64)]}
    held = most_while(server, lambda: server.post("/v1/embeddings", body, timeout=60).raise_for_status())
    assert_bounds(need_on_this_machine(minilm, "embeddings", 256), held)


@pytest.mark.model
def test_painter_holds_less_than_its_estimate(launch: Launch) -> None:
    path = Path(__file__).parents[2] / "drawing" / "model"
    server = launch("--model-path", path)
    body = {"prompt": "red circle, left", "n": 4}
    held = most_while(server, lambda: server.post("/v1/images/generations", body).raise_for_status())
    assert_bounds(need_on_this_machine(path, "image", 4), held)
