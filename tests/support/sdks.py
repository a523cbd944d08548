"""How the clients that are not Python modules of the tests' own are started: `make clients` installs them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.servers import ROOT

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
OLDEST_NODE = 18
TIMEOUT_S = 300


def python() -> str:
    """The interpreter of the clients' own environment."""
    assert PYTHON.exists(), "`make clients` makes .venv-clients"
    return str(PYTHON)


def node() -> str:
    """Node; without it the test is skipped."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node is not installed, so its clients were not tried")
    version = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {version} is too old for the clients: {OLDEST_NODE} or newer is needed")
    return found


def outcome(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
