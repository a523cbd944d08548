"""Starts scripts in the clients' own environments, which `make clients` makes; several at once, as users would."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from support.running.servers import ROOT

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
OLDEST_NODE = 18
TIMEOUT_S = 300
AT_ONCE = 4

Key = TypeVar("Key")


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


@contextlib.contextmanager
def side_by_side(
    request: pytest.FixtureRequest, parameter: str, run: Callable[[Key], str]
) -> Iterator[dict[Key, Future[str]]]:
    """Runs what the module's selected tests have as a `parameter`, a few at a time; their server batches them."""
    tests = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    keys = {item.callspec.params[parameter] for item in tests if parameter in item.callspec.params}
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {key: pool.submit(run, key) for key in sorted(keys)}
    finally:
        pool.shutdown(cancel_futures=True)
