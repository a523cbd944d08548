"""Other people's clients against a real server. docs/clients.md tells what is tried, and is held to it here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import pytest
from support.running import sdks
from support.running.servers import ROOT, Server

HERE = ROOT / "tests" / "clients"
SCRIPTS = sorted([*HERE.glob("python/*_client.py"), *HERE.glob("node/*_client.mjs")])
LINK = re.compile(r"\[`([^`]+)`\]\(\.\./([^)]+)\)")
BOUND = re.compile(r"([\w@/-]+)[\w\[\]]*\"?:? ?\"?>=([\d.]+)")


class Row(NamedTuple):
    package: str
    version: str
    checks: list[str]


def documented() -> dict[Path, Row]:
    """The table's rows, by script."""
    rows = {}
    for line in (ROOT / "docs" / "clients.md").read_text().splitlines():
        if line.startswith("| [`") and "](../tests/clients/" in line:
            client, version, tried = (cell.strip() for cell in line.strip("|").split("|"))
            [(package, script)] = LINK.findall(client)
            rows[ROOT / script] = Row(package, version, tried.split(", "))
    return rows


def bounds(script: Path) -> dict[str, str]:
    """The oldest versions that may be installed beside a script, by package."""
    name = "requirements.txt" if script.suffix == ".py" else "package.json"
    return dict(BOUND.findall(script.with_name(name).read_text()))


@pytest.fixture(scope="module")
def printed(request: pytest.FixtureRequest, smollm2_server: Server) -> Iterator[dict[Path, Future[str]]]:
    def run(script: Path) -> str:
        command = sdks.python() if script.suffix == ".py" else sdks.node()
        return sdks.outcome([command, script, smollm2_server.url])

    with sdks.side_by_side(request, "script", run) as running:
        yield running


@pytest.mark.model
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_client_is_served(script: Path, printed: dict[Path, Future[str]]) -> None:
    *_, passed = printed[script].result().splitlines()
    assert json.loads(passed) == documented()[script].checks


def test_every_client_is_documented_with_its_oldest_version() -> None:
    rows = documented()
    assert sorted(rows) == SCRIPTS
    for script, row in rows.items():
        assert bounds(script)[row.package] == row.version
