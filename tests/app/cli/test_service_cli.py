"""`mlx-server service`, and what a service manager is told by the server that it started."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running.servers import SCRIPTED, Server
from typer.testing import CliRunner

from mlx_server.app.cli.cli import app

FLAGS = ("--model-path", "scripted", "--model-type", "scripted")


def install(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["service", "install", *words])
    return done.exit_code, done.output


def test_the_file_starts_the_server_with_these_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    code, told = install("--show", *FLAGS, "--port", "8123")
    assert code == 0
    assert "Type=notify" in told
    assert '"launch" "--model-path" "scripted" "--model-type" "scripted" "--port" "8123"' in told


def test_paths_mean_what_they_mean_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.toml").write_text("")
    for given in (("--config", "models.toml"), ("--config=models.toml",), ("--model", "a=models.toml")):
        code, told = install("--show", *given)
        assert (code, f"WorkingDirectory={tmp_path}\n" in told) == (0, True)
        assert " ".join(f'"{word}"' for word in given) in told
    code, told = install("--show", *FLAGS)
    assert (code, f"WorkingDirectory={Path.home()}\n" in told) == (0, True)


def test_the_service_has_the_flags_of_the_environment_and_the_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MLX_SERVER_API_KEY", "k$1")
    monkeypatch.setenv("MLX_SERVER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("MLX_GUI_HOST", "127.0.0.2")
    code, told = install("--show", *FLAGS, "--drain-timeout", "600")
    assert code == 0
    assert 'Environment="MLX_SERVER_API_KEY=k$1"\n' in told
    assert 'Environment="MLX_GUI_HOST=127.0.0.2"\n' in told
    assert "MLX_SERVER_URL" not in told, "which is no flag of launch"
    assert "TimeoutStopSec=615\n" in told


@pytest.mark.parametrize(
    ("flags", "said"),
    [(("--port", "many"), "--port"), (("--model-path", "x", "--no-such-flag"), "--no-such-flag")],
)
def test_flags_that_launch_refuses_are_refused_before_anything_is_installed(flags: tuple[str, ...], said: str) -> None:
    code, told = install(*flags)
    assert code == 1
    assert said in told


def test_the_service_manager_is_told_when_the_models_are_there(launch: Callable[..., Server], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = str(tmp_path / "notify")
        listener.bind(address)
        listener.settimeout(60)
        server = launch(*SCRIPTED, env={"NOTIFY_SOCKET": address})
        told = listener.recv(1000).decode()
        while told.startswith("STATUS=loading"):
            told = listener.recv(1000).decode()
        assert told == "READY=1\nSTATUS=serving"
        server.process.terminate()
        assert listener.recv(1000) == b"STOPPING=1"
        assert server.process.wait(30) == 0
    assert not os.environ.get("NOTIFY_SOCKET")
