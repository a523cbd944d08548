"""`/api/hardware`: this machine, and modes that models are served in."""

import os
import platform
from collections.abc import Callable, Iterator

import httpx
import pytest
from support.running.servers import SCRIPTED, Server, serving

MODES = "/api/hardware/performance-mode"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 4, "--prefill-step-size", 512) as server:
        yield server


def set_mode(server: Server, body: object) -> httpx.Response:
    return server.post(MODES, body, headers={"Content-Type": "application/json"})


def test_machine_is_described(server: Server) -> None:
    info = server.get("/api/hardware/info").json()
    assert info["cpu"]["architecture"] == platform.machine()
    assert info["memory"]["total_gb"] == pytest.approx(
        info["memory"]["available_gb"] + info["memory"]["used_gb"], abs=0.1
    )
    assert info["python_version"] == platform.python_version()
    assert info["gpu"].keys() >= {"name", "vendor", "memory_gb", "compute_units", "metal_support", "unified_memory"}
    assert info["thermal"].keys() == {"cpu_temperature_c", "thermal_state", "throttling"}
    assert info["devices"] == ["none"]
    assert {"chip_type", "chip_variant", "os_version", "mlx_version"} <= info.keys()


def test_load_of_the_machine_is_told(server: Server) -> None:
    metrics = server.get("/api/hardware/metrics").json()
    assert len(metrics["cpu"]["core_usage"]) == os.cpu_count()
    assert 0 <= metrics["cpu"]["usage_percent"] <= 100
    assert len(metrics["cpu"]["load_average"]) == 3
    assert metrics["process"]["pid"] == server.process.pid
    assert metrics["process"]["memory_mb"] > 20
    assert metrics["metal"].keys() == {
        "gpu_utilization_percent",
        "memory_used_mb",
        "memory_total_mb",
        "memory_usage_percent",
        "compute_units_active",
    }


def test_modes_change_rows_at_once_and_the_rest_with_the_next_load(server: Server) -> None:
    assert server.stats()["rows_granted"] == 4
    answer = set_mode(server, {"mode": "efficiency"}).json()
    assert (answer["mode"], answer["previous_mode"], answer["success"]) == ("efficiency", "balanced", True)
    assert answer["effects"] == {"rows": 0.5, "prefill_step_size": 0.5, "cache_bytes": 0.5, "threads": 0.5}
    [model] = answer["models"]
    assert model["in_force"]["rows"] == server.stats()["rows_granted"] == 2
    assert model["in_force"]["prefill_step_size"] == 512
    assert model["at_next_load"]["prefill_step_size"] == 256
    assert server.chat("still served").status_code == 200
    anew = {"model_id": "scripted", "force_reload": True}
    assert server.http.post(f"{server.root}/api/models/load", json=anew).status_code == 200
    assert server.stats()["rows_granted"] == 2
    again = set_mode(server, {"mode": "efficiency"}).json()
    assert again["previous_mode"] == "efficiency"
    assert again["models"][0]["at_next_load"] == {}
    assert again["models"][0]["in_force"]["prefill_step_size"] == 256
    fast = set_mode(server, {"mode": "performance"}).json()["models"][0]
    assert fast["in_force"]["rows"] == 4
    assert fast["at_next_load"]["prefill_step_size"] == 1024
    back = set_mode(server, {"mode": "balanced"}).json()["models"][0]
    assert back["at_next_load"]["prefill_step_size"] == 512


def test_mode_outlives_a_restart(launch: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = str(tmp_path_factory.mktemp("kept"))
    first = launch(*SCRIPTED, "--max-concurrency", 4, "--data-dir", data)
    assert set_mode(first, {"mode": "efficiency"}).status_code == 200
    first.stop()
    second = launch(*SCRIPTED, "--max-concurrency", 4, "--data-dir", data)
    assert second.stats()["rows_granted"] == 2
    assert set_mode(second, {"mode": "balanced"}).json()["previous_mode"] == "efficiency"


@pytest.mark.parametrize("body", [{}, {"mode": "turbo"}, {"mode": None}, []], ids=str)
def test_other_modes_are_refused(server: Server, body: object) -> None:
    answer = set_mode(server, body)
    assert answer.status_code == 400
    assert answer.json()["details"]
    if body == {"mode": "turbo"}:
        allowed = "allowed are 'balanced', 'efficiency', 'performance'."
        assert answer.json()["details"] == [f"mode: Invalid enum value 'turbo'; {allowed}"]


def test_mode_is_the_operators(server: Server) -> None:
    body = b'{"mode": "balanced"}'
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json", "Origin": "http://evil.example"},
    ):
        answer = server.post(MODES, body, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "permission_error"
