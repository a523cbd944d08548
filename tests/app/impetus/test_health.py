"""`/api/health`: probes as Kubernetes means them, and metrics under two names."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from support.running.servers import SCRIPTED, Server, wait_for

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.server.server import create_app


def recent(text: str) -> bool:
    return abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(minutes=1)


def test_healthy_server_says_so(scripted_server: Server) -> None:
    health = scripted_server.get("/api/health")
    assert health.status_code == 200
    assert health.json()["status"] == "healthy"
    assert recent(health.json()["timestamp"])
    assert health.json()["uptime_seconds"] > 0
    assert health.json()["version"] == scripted_server.get("/health").json()["version"]


def test_ready_server_says_what_it_checked(scripted_server: Server) -> None:
    ready = scripted_server.get("/api/health/ready")
    assert ready.status_code == 200
    told = ready.json()
    assert (told["ready"], told["message"]) == (True, "Ready")
    assert told["checks"] == {"memory_available": True, "models_loaded": True, "mlx_available": True}


def test_live_server_has_heard_its_worker(scripted_server: Server) -> None:
    live = scripted_server.get("/api/health/live")
    assert live.status_code == 200
    assert live.json()["alive"] is True
    assert recent(live.json()["last_heartbeat"])


def test_parts_of_the_server_are_told(scripted_server: Server) -> None:
    told = scripted_server.get("/api/health/status").json()
    assert told["status"] == "healthy"
    assert told["components"].keys() == {"server", "mlx", "models", "queues", "memory"}
    assert told["components"]["models"]["details"] == {"models": {"scripted": "ready"}, "restarts": 0}
    assert {part["status"] for part in told["components"].values()} == {"healthy"}


def test_server_that_loads_lives_and_is_not_ready(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=60", wait=False)
    server.wait_listening()
    ready = server.get("/api/health/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"]["models_loaded"] is False
    assert ready.json()["message"] == "Models are being loaded"
    assert server.get("/api/health/live").status_code == server.get("/api/health").status_code == 200
    status = server.get("/api/health/status")
    assert (status.status_code, status.json()["status"]) == (200, "degraded")


def test_server_whose_model_failed_lives_and_is_unhealthy(tmp_path: Path) -> None:
    models = (ModelSettings("scripted:fail", "scripted"),)
    with TestClient(create_app(Settings(models=models, response_store="memory", data_dir=tmp_path))) as client:
        wait_for(lambda: client.get("/api/health").status_code == 503)
        assert client.get("/api/health").json()["status"] == "unhealthy"
        assert client.get("/api/health/ready").json()["message"] == "All models were given up"
        assert client.get("/api/health/ready").status_code == 503
        assert client.get("/api/health/status").status_code == 503
        live = client.get("/api/health/live")
        assert (live.status_code, live.json()["last_heartbeat"]) == (200, None)


def test_probes_need_no_key_and_figures_do(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--api-key", "k", wait=False)
    server.wait_listening()
    statuses: dict[str, Any] = {}
    for path in ("", "/ready", "/live", "/status", "/metrics"):
        statuses[path] = server.get(f"/api/health{path}").status_code
    assert statuses.pop("/ready") in (200, 503)
    assert statuses == {"": 200, "/live": 200, "/status": 401, "/metrics": 401}
    assert server.get("/api/health/status", headers={"Authorization": "Bearer k"}).status_code == 200


def test_metrics_have_both_names(scripted_server: Server) -> None:
    assert scripted_server.chat({"tokens": 7}).status_code == 200
    answer = scripted_server.get("/api/health/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["impetus_requests"].type == families["impetus_tokens_generated"].type == "counter"
    assert families["impetus_cpu_usage_percent"].type == "gauge"
    assert "impetus_requests_total" in answer.text
    own = {sample.name: sample.value for sample in families["mlx_server_generated_tokens"].samples}
    alias = {sample.name: sample.value for sample in families["impetus_tokens_generated"].samples}
    assert alias["impetus_tokens_generated_total"] == own["mlx_server_generated_tokens_total"] >= 7
    assert 0 <= families["impetus_cpu_usage_percent"].samples[0].value <= 100
