"""The hub's cache is where the hub's own client has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BOTH = """
from mlx_server.app.catalog.hub_cache import cache_root
from mlx_server.workers.hub.access import HubAccess

print(cache_root())
print(HubAccess().cache.expanduser().resolve())
"""
NAMES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, ".cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "~/xdg"}, "xdg/huggingface/hub"),
        ({"HF_HOME": "~/home", "XDG_CACHE_HOME": "~/xdg"}, "home/hub"),
        ({"HF_HOME": "$HOME/home"}, "home/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "~/old", "HF_HOME": "~/home"}, "old"),
        ({"HF_HUB_CACHE": "$HOME/m", "HUGGINGFACE_HUB_CACHE": "~/old"}, "m"),
        ({"HF_HUB_CACHE": "~/link/m"}, "target/m"),
        ({"HF_HUB_CACHE": ""}, ""),
    ],
)
def test_cache_is_where_the_hubs_client_has_it(tmp_path: Path, env: dict[str, str], place: str) -> None:
    home = tmp_path.resolve()
    (home / "link").symlink_to(home / "target")
    others = {name: value for name, value in os.environ.items() if name not in NAMES}
    run = subprocess.run(
        [sys.executable, "-c", BOTH],
        env={**others, "HOME": str(home), **env},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.splitlines() == [str(home / place)] * 2, run.stderr
