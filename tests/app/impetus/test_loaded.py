"""`/api/models/list`, `/load`, `/unload` and `/benchmark`, with real workers."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.running.processes import lives
from support.running.servers import SCRIPTED, Server, serving, wait_for

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--max-concurrency", 4) as server:
        server.http.headers.update(JSON)
        yield server


def test_loaded_models_are_listed_with_their_memory(scripted_server: Server) -> None:
    scripted_server.chat("used now")
    listed = scripted_server.get("/api/models/list").json()
    [model] = listed["models"]
    assert (model["model_id"], model["status"], model["format"]) == ("scripted", "loaded", "MLX")
    assert model["load_time_seconds"] > 0
    assert model["last_used"].endswith("+00:00")
    [worker] = scripted_server.worker_pids()
    assert model["memory_usage_mb"] == pytest.approx(psutil.Process(worker).memory_info().rss / (1 << 20), rel=0.3)
    assert listed["total_memory_usage_mb"] == model["memory_usage_mb"]
    assert 0 < listed["available_memory_mb"] <= psutil.virtual_memory().total / (1 << 20)
    assert (model["size_mb"], model["parameters"], model["quantization"]) == (0.0, None, None)


def test_model_is_unloaded_and_loaded_again(server: Server) -> None:
    [worker] = server.worker_pids()
    for _ in range(2):  # the second time there is nothing to do
        gone = server.post("/api/models/unload", {"model_id": "scripted"})
        assert gone.status_code == 200
        assert (gone.json()["success"], gone.json()["data"]["status"]) == (True, "unloaded")
        assert gone.json()["data"]["memory_usage_mb"] == 0
    assert not lives(worker)
    assert server.get("/api/models/list").json()["models"] == []
    for _ in range(2):
        loaded = server.post("/api/models/load", {"model_id": "scripted"})
        assert loaded.status_code == 200
        assert loaded.json()["data"]["status"] == "loaded"
        assert loaded.json()["data"]["load_time_seconds"] > 0
    [worker] = server.worker_pids()
    again = server.post("/api/models/load", {"model_id": "scripted", "force_reload": True})
    assert again.json()["data"]["status"] == "loaded"
    assert server.worker_pids() != [worker]
    assert server.chat("hi").status_code == 200


def test_forced_unload_ends_what_runs(server: Server) -> None:
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.post(f"{server.url}/chat/completions", json=slow, timeout=60).status_code)

    slow = {"messages": [{"role": "user", "content": '{"tokens": 100000, "interval_s": 0.01}'}]}
    queries = threading.Thread(target=ask)
    queries.start()
    server.wait_stats(running_requests=1)
    gone = server.post("/api/models/unload", {"model_id": "scripted", "force": True})
    assert gone.json()["data"]["status"] == "unloaded"
    queries.join(60)
    assert statuses == [503]


@pytest.mark.parametrize("path", ["load", "unload", "benchmark/no%2Fsuch"])
def test_unknown_model_is_not_found(scripted_server: Server, path: str) -> None:
    answer = scripted_server.post(f"/api/models/{path}", {"model_id": "no/such"}, headers=JSON)
    assert answer.status_code == 404
    body = answer.json()
    assert body["error"]["message"].startswith("Model 'no/such' not found")
    assert body["details"] == [f"model: {body['detail']}"]
    assert body["timestamp"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("load", {}, "model_id"),
        ("load", {"model_id": 7}, "model_id"),
        ("load", {"model_id": ""}, "model_id"),
        ("load", {"model_id": "m", "force_reload": "yes"}, "force_reload"),
        ("unload", {}, "model_id"),
        ("unload", {"model_id": "m", "force": 1}, "force"),
        ("benchmark/scripted", {"num_samples": 0}, "num_samples"),
        ("benchmark/scripted", {"num_samples": 101}, "num_samples"),
        ("benchmark/scripted", {"max_tokens": 0}, "max_tokens"),
        ("benchmark/scripted", {"max_tokens": 5000}, "max_tokens"),
        ("benchmark/scripted", {"num_samples": 100, "max_tokens": 4096}, "num_samples"),
        ("benchmark/scripted", {"temperature": 2.5}, "temperature"),
        ("benchmark/scripted", {"include_warmup": "no"}, "include_warmup"),
        ("benchmark/scripted", {"include_memory_test": 1}, "include_memory_test"),
    ],
    ids=str,
)
def test_bad_input_is_named(scripted_server: Server, path: str, body: dict[str, Any], param: str) -> None:
    answer = scripted_server.post(f"/api/models/{path}", body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["details"]


@pytest.mark.parametrize("path", ["load", "unload", "benchmark/scripted"])
def test_pages_of_other_sites_move_no_models(scripted_server: Server, path: str) -> None:
    headers = {**JSON, "Origin": "http://evil.example"}
    answer = scripted_server.post(f"/api/models/{path}", {"model_id": "scripted"}, headers=headers)
    assert answer.status_code == 403
    own = {**JSON, "Origin": scripted_server.root}
    assert (
        scripted_server.post(f"/api/models/{path}", {"model_id": "x", "max_tokens": 0}, headers=own).status_code != 403
    )


def test_benchmark_measures_what_it_was_asked_for(scripted_server: Server) -> None:
    before = scripted_server.stats()["served"]
    plan = {"num_samples": 3, "max_tokens": 8, "temperature": 0.5}
    answer = scripted_server.post("/api/models/benchmark/scripted", plan).json()
    assert len(answer["samples"]) == 3
    assert answer["total_tokens"] == sum(sample["tokens"] for sample in answer["samples"]) == 24
    assert answer["total_time_seconds"] == pytest.approx(
        sum(sample["time_seconds"] for sample in answer["samples"]), abs=0.01
    )
    assert answer["tokens_per_second"] == pytest.approx(24 / answer["total_time_seconds"], rel=0.2)
    assert 0 < answer["first_token_latency_ms"] <= 1000 * answer["total_time_seconds"]
    assert answer["memory_usage_mb"] > 1
    assert answer["model_id"] == "scripted"
    assert scripted_server.stats()["served"] == before + 4, "a warm-up came first"


def test_benchmark_leaves_out_what_it_is_told_to(scripted_server: Server) -> None:
    before = scripted_server.stats()["served"]
    plan = {"num_samples": 1, "max_tokens": 1, "include_memory_test": False, "include_warmup": False}
    answer = scripted_server.post("/api/models/benchmark/scripted", plan).json()
    assert answer["memory_usage_mb"] is None
    assert scripted_server.stats()["served"] == before + 1


def test_benchmark_of_a_model_that_is_not_loaded_says_so(server: Server) -> None:
    server.post("/api/models/unload", {"model_id": "scripted"})
    answer = server.post("/api/models/benchmark/scripted", {})
    assert answer.status_code == 400
    assert "is not loaded. Load it first" in answer.json()["detail"]


def test_one_benchmark_of_a_model_at_a_time(server: Server) -> None:
    url = f"{server.root}/api/models/benchmark/scripted"
    answers: list[int] = []

    def run() -> None:
        answers.append(httpx.post(url, json={"num_samples": 100, "max_tokens": 500}, timeout=120).status_code)

    runs = [threading.Thread(target=run) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join(120)
    assert sorted(answers) == [200, 409]


def test_whoever_leaves_ends_the_benchmark(launch: Callable[..., Server]) -> None:
    server = launch("--model-type", "scripted", "--model-path", "scripted:load_s=0")
    url = f"{server.root}/api/models/benchmark/scripted:load_s=0"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json={"num_samples": 100, "max_tokens": 500}, timeout=httpx.Timeout(30, read=0.05))
    server.wait_stats(active_requests=0)
    wait_for(lambda: server.post("/api/models/benchmark/scripted:load_s=0", {"num_samples": 1}).status_code == 200)


@pytest.mark.model
def test_real_model_is_listed_and_measured(smollm2_server: Server, smollm2: Path) -> None:
    [model] = smollm2_server.get("/api/models/list").json()["models"]
    assert model["model_id"] == smollm2.name
    assert (model["architecture"], model["parameters"]) == ("llama", "135M")
    assert model["size_mb"] > 50
    plan = {"num_samples": 2, "max_tokens": 12, "temperature": 0}
    answer = smollm2_server.post(f"/api/models/benchmark/{smollm2.name}", plan).json()
    assert [sample["tokens"] for sample in answer["samples"]] == [12, 12]
    assert answer["memory_usage_mb"] > model["size_mb"] / 2


@pytest.mark.model
def test_model_that_writes_no_text_is_not_measured(minilm_server: Server, minilm: Path) -> None:
    answer = minilm_server.post(f"/api/models/benchmark/{minilm.name}", {})
    assert answer.status_code == 400
    assert "writes no text" in answer.json()["detail"]
