"""Tiny random models that draw, each loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tiny.drawing import make_drawing_model


@pytest.fixture(scope="session", params=["turbo", "guided"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distilled variant, and the one that knows guidance."""
    return make_drawing_model(tmp_path_factory.mktemp(request.param), guided=request.param == "guided")


@pytest.fixture(scope="session")
def family(folder: Path) -> Any:
    """The model behind the engine's interface."""
    from mlx_server.workers.engine.draw.loading import load

    return load(folder, "auto", lambda _: None).family
