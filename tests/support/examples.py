"""Runs the examples as a newcomer would, with servers at other addresses than theirs."""

from __future__ import annotations

import os

from support.running import sdks
from support.running.servers import ROOT, Server

EXAMPLES = ROOT / "examples"
NOTEBOOK_RUNNER = ROOT / "tests" / "clients" / "python" / "run_notebook.py"


def run_script(name: str, server: Server, *arguments: object) -> str:
    """What a script prints."""
    return sdks.outcome([sdks.python(), EXAMPLES / name, "--base-url", server.url, *map(str, arguments)])


def run_notebook(name: str, **servers: Server) -> str:
    """What a notebook's cells print and show; `BASE` is the server of MLX_SERVER_BASE_URL."""
    urls = {f"MLX_SERVER_{which}_URL": server.url for which, server in servers.items()}
    return sdks.outcome([sdks.python(), NOTEBOOK_RUNNER, EXAMPLES / name], {**os.environ, **urls})
