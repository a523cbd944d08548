"""Fixtures that everybody shares: real models, and real server processes on free ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.running.servers import ROOT, SCRIPTED, Server, serving
from support.tiny.models import make_model

from mlx_server.app.config.settings import default_cache_dir
from mlx_server.app.demo.demo import ensure_demo_model
from mlx_server.app.demo.models import KOKORO, MINILM, WHISPER_TINY
from mlx_server.workers.parent.environment import child_environment

FAST_MATH = {
    name: value
    for name, value in child_environment({}, threads=1).items()
    if name in ("LD_PRELOAD", "OPENBLAS_NUM_THREADS")
}
"""What has MLX compute as fast in a process of tests as in workers, which have it anyway."""

PAINTER = ROOT / "tests" / "drawing" / "model"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--screenshots`: those of the console's test go into the documentation."""
    parser.addoption("--screenshots", action="store_true", help="write the console's screenshots into docs/console")


def pytest_configure(config: pytest.Config) -> None:
    """Processes of tests begin with FAST_MATH. What these start finds OpenBLAS as it would anywhere, but has one thread
    of it too: two of a server's would compete with those that the other process has started."""
    if hasattr(config, "workerinput"):
        os.environ.pop("LD_PRELOAD", None)
    elif config.getoption("numprocesses", None):
        os.environ |= FAST_MATH


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes to the user's data folder, whichever way it starts a server."""
    with pytest.MonkeyPatch.context() as patch:
        data = tmp_path_factory.mktemp("data")
        patch.setenv("MLX_SERVER_DATA_DIR", str(data))
        patch.setenv("XDG_DATA_HOME", str(data))  # where applications in the tests' own process keep theirs
        yield


@pytest.fixture(scope="session", autouse=True)
def kernels_are_kept() -> Iterator[None]:
    """Nor does one compile anew what workers without a cache of their own would forget."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(default_cache_dir() / "numba"))
        yield


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as an MLX folder."""
    return ensure_demo_model(default_cache_dir(), Console(stderr=True))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2, which makes embeddings."""
    return ensure_demo_model(default_cache_dir(), Console(stderr=True), source=MINILM)


@pytest.fixture(scope="session")
def whisper_tiny() -> Path:
    """whisper-tiny.en, which hears."""
    return ensure_demo_model(default_cache_dir(), Console(stderr=True), source=WHISPER_TINY)


@pytest.fixture(scope="session")
def kokoro_folder() -> Path:
    """Kokoro-82M, which speaks English."""
    return ensure_demo_model(default_cache_dir(), Console(stderr=True), source=KOKORO)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes tiny random models by architecture (`llama`, `gemma2`, `mamba`), each once."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = make_model(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return make


@pytest.fixture
def launch() -> Iterator[Callable[..., Server]]:
    """Starts `mlx-server launch` processes, which end with the test."""
    servers: list[Server] = []

    def start(*arguments: object, wait: bool = True, **how: Any) -> Server:
        server = Server(*arguments, **how)
        servers.append(server)
        if wait:
            server.wait_ready()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def smollm2_server(smollm2: Path) -> Iterator[Server]:
    """One server with the real model, for all tests that only talk to it."""
    with serving("--model-path", smollm2, "--max-concurrency", 4) as server:
        yield server


@pytest.fixture(scope="session")
def minilm_server(minilm: Path) -> Iterator[Server]:
    """One server with the real embedding model, for all tests that only talk to it."""
    with serving("--model-type", "embeddings", "--model-path", minilm) as server:
        yield server


@pytest.fixture(scope="session")
def whisper_server(whisper_tiny: Path) -> Iterator[Server]:
    """One server with the real model that hears, for all tests that only talk to it."""
    with serving("--model-path", whisper_tiny) as server:
        yield server


@pytest.fixture(scope="session")
def studio_server(whisper_tiny: Path, kokoro_folder: Path) -> Iterator[Server]:
    """One server with models that hear, speak and draw, under the names that OpenAI's have."""
    models = {"whisper-1": whisper_tiny, "tts-1": kokoro_folder, "gpt-image-1": PAINTER}
    with serving(*(part for name, path in models.items() for part in ("--model", f"{name}={path}"))) as server:
        yield server


@pytest.fixture(scope="module")
def scripted_server() -> Iterator[Server]:
    """One server with the scripted backend, for all tests of a module that only talk to it."""
    with serving(*SCRIPTED, "--max-concurrency", 4) as server:
        yield server
