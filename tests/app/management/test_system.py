"""`/` and `/v1/system`: what the machine is, and how the server is stopped and started again."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from starlette.testclient import TestClient
from support.running.servers import SCRIPTED, Server

from mlx_server.app import __version__
from mlx_server.app.config.settings import ApiKey, ModelSettings, Settings
from mlx_server.app.machine.device import Device
from mlx_server.app.routes.management.system import gpu_memory
from mlx_server.app.server.server import create_app
from mlx_server.queue.account import KeyLimits

Launch = Callable[..., Server]
FOREIGN = {"Origin": "https://example.com"}
CONFIG = '[[model]]\nname = "{name}"\npath = "scripted"\ntype = "scripted"\n'


def test_root_says_what_answers(launch: Launch) -> None:
    server = launch(*SCRIPTED)
    told = {"name": "mlx-server", "version": __version__, "status": "running", "docs": "/docs"}
    assert server.get("/").json() == told
    browsers = server.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (browsers.status_code, browsers.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "/docs" in server.get("/nothing").json()["detail"]
    assert server.get("/health").json()["status"] == "healthy"


def test_status_tells_of_this_machine(launch: Launch) -> None:
    status = launch(*SCRIPTED).get("/v1/system/status").json()
    assert status["status"] == "running"
    system = status["system"]
    assert (system["platform"], system["architecture"]) == (platform.system(), platform.machine())
    assert system["is_apple_silicon"] is (platform.system() == "Darwin" and platform.machine() == "arm64")
    assert system["mlx_compatible"] is status["mlx_compatible"] is True
    memory = system["memory"]
    assert 0 < memory["total_gb"] <= psutil.virtual_memory().total / (1 << 30) + 0.01
    assert memory["used_gb"] + memory["available_gb"] <= memory["total_gb"] + 0.02
    if "cpu" in system["backends"]:
        assert system["gpu_memory"] is None
    manager = status["model_manager"]
    assert manager["loaded_models_count"] == 1
    assert manager["queue_size"] == 0
    assert 0 < manager["memory_usage_percent"] < 100
    assert 0 < manager["memory_limit_gb"] <= memory["total_gb"]


def test_limits_name_keys_and_never_their_secrets(tmp_path: Path) -> None:
    boss = ApiKey("secret-boss", "boss")
    pupil = ApiKey("secret-pupil", "pupil", limits=KeyLimits(rows=2), operator=False)
    models = (ModelSettings("scripted", "scripted", queue_size=7),)
    settings = Settings(models, models[0], response_store="memory", data_dir=tmp_path, api_keys=(boss, pupil))
    client = TestClient(create_app(settings))
    told = [client.get("/v1/system/limits", headers={"x-api-key": key.key}) for key in (boss, pupil)]
    assert not any("secret" in answer.text for answer in told)
    assert told[0].json()["queue_size"] == 7
    assert [[(key["name"], key["own"]) for key in answer.json()["keys"]] for answer in told] == [
        [("boss", True), ("pupil", False)],
        [("pupil", True)],
    ]
    assert told[1].json()["keys"][0]["max_rows"] == 2
    assert client.get("/v1/system/limits").status_code == 401


def test_graphics_memory_is_what_models_may_have() -> None:
    gigabyte = 1 << 30
    apple = gpu_memory("Apple M2 Pro", Device("metal", 48 * gigabyte, 40 * gigabyte))
    assert (apple.total_gb, apple.available_gb, apple.device_name) == (36.0, 36.0, "Apple M2 Pro")
    card = gpu_memory("NVIDIA H100", Device("cuda", 80 * gigabyte, 10 * gigabyte))
    assert (card.total_gb, card.available_gb) == (80.0, 10.0)


def test_shutdown_lets_what_runs_come_to_its_end(launch: Launch) -> None:
    server = launch(*SCRIPTED)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.chat, {"tokens": 20, "interval_s": 0.05})
        server.wait_stats(running_requests=1)
        answer = server.post("/v1/system/shutdown", b"")
        assert (answer.status_code, answer.json()) == (200, {"message": "Server shutting down"})
        assert running.result().status_code == 200
    assert server.process.wait(30) == 0


def test_only_the_operator_stops_the_server(launch: Launch) -> None:
    server = launch(*SCRIPTED)
    for path in ("/v1/system/shutdown", "/v1/system/restart"):
        assert server.post(path, b"", headers=FOREIGN).status_code == 403
        assert server.post(path, b"x=1").status_code == 403
        assert server.get(path).status_code == 405
    assert server.chat("still there").status_code == 200
    guarded = launch(*SCRIPTED, "--api-key", "secret", wait=False)
    guarded.wait_listening()
    assert guarded.post("/v1/system/shutdown", b"").status_code == 401
    assert guarded.post("/v1/system/shutdown", b"", headers={"x-api-key": "secret"}).status_code == 200


def test_restart_reads_the_configuration_and_the_settings_again(launch: Launch, tmp_path: Path) -> None:
    config = tmp_path / "models.toml"
    config.write_text(CONFIG.format(name="first"))
    server = launch("--config", config)
    config.write_text(CONFIG.format(name="first") + CONFIG.format(name="second"))
    answer = server.post("/v1/system/restart", b"")
    assert answer.json() == {
        "message": "Server restarting with updated settings",
        "added": ["second"],
        "removed": [],
        "changed": [],
        "unchanged": ["first"],
        "next_start": [],
    }
    server.wait_until(lambda: server.chat("hi", model="second").status_code == 200)
    config.write_text("nonsense")
    refused = server.post("/v1/system/restart", b"")
    assert refused.status_code == 500
    assert "models.toml" in refused.json()["detail"]
    assert server.chat("hi", model="first").status_code == 200


def test_embedded_server_is_not_its_own_to_stop() -> None:
    app = create_app(Settings(models=(ModelSettings("scripted", "scripted"),)))
    client = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))
    assert client.post("/v1/system/shutdown").status_code == 501
