"""OpenAI's SDKs with models that draw."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.documented_clients import ALL, documented, passed, run
from support.running.servers import Server

SCRIPTS = [script for script in ALL if script.stem.endswith("_images_client")]


@pytest.mark.model
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_client_is_served(script: Path, studio_server: Server) -> None:
    assert passed(run(script, studio_server)) == documented()[script].checks
