"""A worker that has loaded its model opens no connection and writes nowhere but in its folders, and does its work."""

import errno
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.running.servers import ROOT, Server, wait_for

from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.child.confinement import writable_folders
from mlx_server.workers.engine.sandbox import landlock, no_internet

INSIDE = ROOT / "tests" / "support" / "inside"
LONG = "the quick brown fox jumps over the lazy dog " * 20


@pytest.mark.model
def test_worker_can_do_its_work_and_nothing_else(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("tmp", "cache", "prompts", "outside")}
    for folder in folders.values():
        folder.mkdir()
    (folders["outside"] / "there").touch()
    tried = folders["tmp"] / "tried.json"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        env = {
            "PYTHONPATH": str(INSIDE),
            "TMPDIR": str(folders["tmp"]),
            "TRIED": str(tried),
            "TRY_PORT": str(listener.getsockname()[1]),
            "TRY_FOLDER": str(folders["outside"]),
        }
        kept = ("--cache-dir", folders["cache"], "--prompt-cache-dir", folders["prompts"])
        server = Server("--model-path", tiny_model("llama"), *kept, env=env)
        try:
            server.wait_ready()
            first = server.chat(LONG, max_tokens=4, temperature=0).raise_for_status().json()
            [pid] = server.worker_pids()
            psutil.Process(pid).send_signal(signal.SIGUSR1)
            wait_for(tried.is_file)
            again = server.chat(LONG, max_tokens=4, temperature=0).raise_for_status().json()
            wait_for(lambda: any(file.is_file() for file in folders["prompts"].rglob("*")))
            assert server.worker_pids() == [pid]
        finally:
            server.close()
    refused = errno.EPERM if no_internet.is_possible() else 0
    elsewhere = errno.EACCES if landlock.version() >= landlock.LEAST_VERSION else 0
    assert json.loads(tried.read_text()) == {
        "connect": refused,
        "have_a_child_connect": refused,
        "send_a_datagram": refused,
        "write_outside": elsewhere,
        "delete_outside": elsewhere,
    }
    assert again["choices"][0]["message"] == first["choices"][0]["message"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_hub_is_written_to_only_where_a_model_may_come_from_it(tmp_path: Path) -> None:
    def folders_with(model_path: str) -> list[str]:
        return [path.name for path in writable_folders(Load(model_path, "lm", 1, 512, str(tmp_path)))]

    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert "hub" in folders_with("somebody/something")
    assert "hub" not in folders_with(str(tmp_path))
