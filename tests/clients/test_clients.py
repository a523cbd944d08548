"""Other people's clients against a real server. docs/clients.md tells what is tried, and is held to it here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from support.documented_clients import ALL, bounds, documented, passed, run
from support.running import sdks
from support.running.servers import Server

OF_OTHER_MODELS = ("_audio_client", "_images_client")
"""How the names of scripts end that are tried beside this file."""

SCRIPTS = [script for script in ALL if not script.stem.endswith(OF_OTHER_MODELS)]


@pytest.fixture(scope="module")
def printed(request: pytest.FixtureRequest, smollm2_server: Server) -> Iterator[dict[Path, Future[str]]]:
    with sdks.side_by_side(request, "script", lambda script: run(script, smollm2_server)) as running:
        yield running


@pytest.mark.model
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_client_is_served(script: Path, printed: dict[Path, Future[str]]) -> None:
    assert passed(printed[script].result()) == documented()[script].checks


def test_every_client_is_documented_with_its_oldest_version() -> None:
    rows = documented()
    assert sorted(rows) == ALL
    for script, row in rows.items():
        assert bounds(script)[row.package] == row.version
