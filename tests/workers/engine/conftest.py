"""MLX in the tests' own process and on its own thread, settled as a worker settles it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def mlx_settled() -> None:
    """No compilation on a CPU, as in a worker."""
    from mlx_server.workers.engine.runtime import platform

    platform.configure()


@pytest.fixture(scope="session")
def load_tiny(tiny_model: Callable[[str], Path]) -> Callable[[str], Any]:
    """Loads tiny random models by architecture, each once."""
    from mlx_lm.utils import load_model

    loaded: dict[str, Any] = {}

    def load(architecture: str) -> Any:
        if architecture not in loaded:
            loaded[architecture] = load_model(tiny_model(architecture))[0]
        return loaded[architecture]

    return load


@pytest.fixture(scope="session")
def llama(load_tiny: Callable[[str], Any]) -> Any:
    """A model that may be batched."""
    return load_tiny("llama")
