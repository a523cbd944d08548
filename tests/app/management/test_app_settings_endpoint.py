"""`/v1/settings`: read, changed, kept over a restart, and acted on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.running.servers import SCRIPTED, Server, serving

from mlx_server.app.registry.app_settings import SETTINGS

Launch = Callable[..., Server]
FOREIGN = {"Origin": "https://example.com"}


def put(server: Server, key: str, value: Any, **headers: str) -> httpx.Response:
    return server.http.put(f"{server.root}/v1/settings/{key}", json={"value": value}, headers=headers)


@pytest.fixture
def server(launch: Launch) -> Server:
    return launch(*SCRIPTED)


def test_settings_are_what_is_in_force(server: Server) -> None:
    found = server.get("/v1/settings").json()
    assert found.keys() == SETTINGS.keys()
    assert found["server_port"] == 0
    assert (found["model_inactivity_timeout_minutes"], found["auto_unload_inactive_models"]) == (30, True)
    assert (found["log_level"], found["bind_to_all_interfaces"]) == ("INFO", False)


def test_setting_acts_at_once_and_is_told(server: Server) -> None:
    answer = put(server, "model_inactivity_timeout_minutes", 60)
    assert answer.status_code == 200
    told = answer.json()
    assert {name: told[name] for name in ("key", "value", "updated", "effect")} == {
        "key": "model_inactivity_timeout_minutes",
        "value": 60,
        "updated": True,
        "effect": "now",
    }
    summary = server.get("/v1/manager/status").json()["system_status"]
    assert (summary["auto_unload_enabled"], summary["inactivity_timeout_minutes"]) == (True, 60)
    assert put(server, "auto_unload_inactive_models", False).status_code == 200
    assert server.get("/v1/manager/status").json()["system_status"]["auto_unload_enabled"] is False
    assert put(server, "auto_unload_inactive_models", True).status_code == 200
    summary = server.get("/v1/manager/status").json()["system_status"]
    assert (summary["auto_unload_enabled"], summary["inactivity_timeout_minutes"]) == (True, 60)


def test_log_level_acts_at_once(server: Server) -> None:
    assert put(server, "log_level", "WARNING").status_code == 200
    quiet = len(server.output())
    server.get("/v1/models")
    assert put(server, "log_level", "INFO").status_code == 200
    server.get("/v1/settings")
    server.wait_until(lambda: "GET /v1/settings" in server.output()[quiet:])
    assert "GET /v1/models" not in server.output()[quiet:]


def test_what_a_headless_server_cannot_do_is_kept_and_said(server: Server) -> None:
    for key in ("enable_system_tray", "enable_gpu_acceleration"):
        told = put(server, key, False).json()
        assert (told["effect"], told["updated"]) == ("kept_only", True)
        assert told["note"]
        assert server.get("/v1/settings").json()[key] is False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server_port", 0),
        ("server_port", 65536),
        ("server_port", "8000"),
        ("server_port", True),
        ("max_concurrent_requests", 0),
        ("auto_unload_inactive_models", 1),
        ("model_inactivity_timeout_minutes", 0),
        ("log_level", "LOUD"),
        ("log_level", "debug"),
        ("huggingface_cache_dir", "x" * 5000),
        ("huggingface_cache_dir", "a\nb"),
        ("bind_to_all_interfaces", "yes"),
        ("server_port", None),
        ("server_port", 1.5),
    ],
)
def test_value_of_the_wrong_type_or_range_is_refused(shared: Server, key: str, value: Any) -> None:
    answer = put(shared, key, value)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "value"


@pytest.fixture(scope="module")
def shared() -> Any:
    with serving(*SCRIPTED) as server:
        yield server


def test_unknown_setting_is_not_found(shared: Server) -> None:
    answer = put(shared, "colour", "blue")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "setting_not_found")
    assert "server_port" in answer.json()["detail"]


def test_only_the_operator_changes_settings(shared: Server) -> None:
    assert put(shared, "log_level", "DEBUG", **FOREIGN).status_code == 403
    assert shared.http.put(f"{shared.root}/v1/settings/log_level", content=b'{"value": "DEBUG"}').status_code == 403
    assert shared.get("/v1/settings").json()["log_level"] == "INFO"


def test_settings_survive_a_restart_and_flags_win(launch: Launch, tmp_path: Path) -> None:
    first = launch(*SCRIPTED, "--data-dir", tmp_path)
    for key, value in {
        "max_concurrent_requests": 3,
        "model_inactivity_timeout_minutes": 45,
        "huggingface_cache_dir": str(tmp_path / "hub"),
        "enable_system_tray": False,
    }.items():
        assert put(first, key, value).status_code == 200
    assert first.stop() == 0
    second = launch(*SCRIPTED, "--data-dir", tmp_path)
    found = second.get("/v1/settings").json()
    assert (found["max_concurrent_requests"], found["enable_system_tray"]) == (3, False)
    assert second.stats()["max_concurrency"] == 3
    assert second.get("/v1/manager/status").json()["system_status"]["inactivity_timeout_minutes"] == 45
    assert second.stop() == 0
    third = launch(*SCRIPTED, "--data-dir", tmp_path, "--max-concurrency", 6, "--idle-timeout", 5)
    assert third.stats()["max_concurrency"] == 6
    assert third.get("/v1/manager/status").json()["system_status"]["inactivity_timeout_minutes"] == 5


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_what_the_server_was_started_with_wins_at_once(launch: Launch, tmp_path: Path, how: str) -> None:
    config = tmp_path / "models.toml"
    config.write_text('[server]\nidle_timeout = 5\n[[model]]\nname = "a"\npath = "scripted"\ntype = "scripted"\n')
    flags = {"flag": (*SCRIPTED, "--idle-timeout", 5), "environment": SCRIPTED, "file": ("--config", config)}[how]
    server = launch(*flags, env={"MLX_SERVER_IDLE_TIMEOUT": "5"} if how == "environment" else {})

    def check() -> None:
        found = server.get("/v1/settings").json()
        assert (found["model_inactivity_timeout_minutes"], found["auto_unload_inactive_models"]) == (5, True)
        assert server.get("/v1/manager/status").json()["system_status"]["inactivity_timeout_minutes"] == 5

    for key, value in {"model_inactivity_timeout_minutes": 60, "auto_unload_inactive_models": False}.items():
        told = put(server, key, value).json()
        assert (told["value"], told["effect"]) == (value, "kept_only")
        assert "configuration file says" in told["note"]
        check()
    assert server.post("/v1/system/restart", b"").status_code == 200
    check()
    assert put(server, "log_level", "WARNING").json()["effect"] == "now"
    assert server.get("/v1/settings").json()["log_level"] == "WARNING"
