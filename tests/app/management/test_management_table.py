"""The table of other servers' endpoints in docs/management.md: what it names is there, and nothing is left out."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from support.running.servers import ROOT

from mlx_server.app.config.settings import Settings
from mlx_server.app.server.server import create_app

DOCUMENT = ROOT / "docs" / "management.md"
ROW = re.compile(r"\| ((?:MLX-GUI|Impetus)[^`]*)`([A-Z]+) (/[^` ]*)` \| `([A-Z]+) (/[^` ]*)` \| `([^`:]+)::([^`]+)` \|")
MLX_GUI = """
GET /
GET /health
GET /v1/system/status
POST /v1/system/shutdown
POST /v1/system/restart
GET /v1/models
GET /v1/models/{}
POST /v1/models/{}/load
POST /v1/models/{}/unload
DELETE /v1/models/{}
GET /v1/models/{}/health
POST /v1/models/{}/generate
POST /v1/models/install
GET /v1/discover/models
GET /v1/discover/popular
GET /v1/discover/categories
GET /v1/discover/compatible
GET /v1/discover/models/{}
GET /v1/manager/status
GET /v1/manager/models/{}/status
POST /v1/manager/models/{}/priority
GET /v1/settings
PUT /v1/settings/{}
POST /v1/chat/completions
"""
IMPETUS = """
GET /v1/models
POST /v1/chat/completions
POST /v1/completions
GET /api/models/discover
POST /api/models/download
GET /api/models/list
POST /api/models/load
POST /api/models/unload
POST /api/models/benchmark/{}
GET /api/hardware/info
GET /api/hardware/metrics
POST /api/hardware/performance-mode
GET /api/health
GET /api/health/ready
GET /api/health/live
GET /api/health/status
GET /api/health/metrics
GET /docs
GET /api/docs
GET /api/docs/openapi.json
GET /socket.io/
"""


class Row(NamedTuple):
    whose: str
    theirs: tuple[str, str]
    ours: tuple[str, str]
    file: Path
    test: str


def plain(path: str) -> str:
    """A path whose parameters have no names."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def table() -> list[Row]:
    found = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    return [
        Row(whose, (method, plain(path)), (our_method, plain(our_path)), ROOT / file, test)
        for whose, method, path, our_method, our_path, file, test in found
    ]


def documented(name: str) -> set[tuple[str, str]]:
    lines = {"MLX-GUI": MLX_GUI, "Impetus": IMPETUS}[name].split("\n")
    return {(method, path) for method, _, path in (line.partition(" ") for line in lines) if method}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    app: Starlette = create_app(Settings(data_dir=tmp_path_factory.mktemp("data"), response_store="off"))
    found = {("GET", f"{route.path}/") for route in app.routes if isinstance(route, Mount)}
    for route in app.routes:
        if isinstance(route, Route):
            found |= {(method, plain(route.path)) for method in route.methods or ()}
    app.state.services.registry.close()
    return found


def test_every_line_of_the_table_is_read() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(table()) == sum(line.startswith(("| MLX-GUI", "| Impetus")) for line in text.splitlines())


@pytest.mark.parametrize("row", table(), ids=lambda row: " ".join(row.theirs))
def test_endpoint_and_test_of_the_table_exist(row: Row, served: set[tuple[str, str]]) -> None:
    assert row.ours in served
    tests = {node.name for node in ast.parse(row.file.read_text(encoding="utf-8")).body if hasattr(node, "name")}
    assert row.test in tests
    for name in row.whose.replace(",", " ").split():
        assert row.theirs in documented(name)


@pytest.mark.parametrize("name", ["MLX-GUI", "Impetus"])
def test_every_endpoint_of_theirs_is_in_the_table(name: str) -> None:
    assert documented(name) == {row.theirs for row in table() if name in row.whose}
