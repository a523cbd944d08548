"""Models are loaded, unloaded, installed and deleted by MLX-GUI's endpoints."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.running.hub import LocalHub, Repo, repo_of, running
from support.running.servers import Server, serving

TINY = "mlx-community/tiny-llama"
BROKEN = "mlx-community/broken"
JSON = {"Content-Type": "application/json"}
FOREIGN = {"Origin": "https://example.com"}


@pytest.fixture(scope="module")
def hub(tiny_model: Callable[[str], Path]) -> Iterator[LocalHub]:
    broken = Repo(BROKEN, {"config.json": b"{", "model.safetensors": b"no weights"})
    with running(LocalHub(repo_of(tiny_model("llama"), TINY, tags=("mlx",)), broken)) as local:
        yield local


@pytest.fixture(scope="module")
def server(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    cache = tmp_path_factory.mktemp("cache")
    models = ("--model", "a=scripted", "--model", "org/b=scripted", "--model", "bad=scripted:fail")
    with serving(
        "--model-type", "scripted", *models, env={"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_TOKEN": ""}
    ) as server:
        yield server


@pytest.fixture(scope="module")
def folder_server(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that finds real models in a folder, and loads what is asked for."""
    root = tmp_path_factory.mktemp("models")
    for name in ("one", "two", "sub/three"):
        copy(tiny_model("llama"), root / name)
    (copy(tiny_model("llama"), root / "rotten") / "model.safetensors").write_bytes(b"12345678")
    with serving(
        "--models-dir", root, env={"HF_HUB_CACHE": str(tmp_path_factory.mktemp("cache"))}, until=Server.wait_listening
    ) as server:
        yield server


def copy(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def post(server: Server, path: str, body: Any = None, **headers: str) -> Any:
    return (
        server.http.post(f"{server.root}{path}", json=body, headers=headers)
        if body is not None
        else server.http.post(f"{server.root}{path}", headers=headers)
    )


def listed(server: Server) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in server.get("/v1/models").json()["models"]}


def is_time(text: str) -> bool:
    return abs(datetime.fromisoformat(text).timestamp() - time.time()) < 600


def test_list_speaks_both_languages(server: Server) -> None:
    body = server.get("/v1/models").json()
    assert [model["id"] for model in body["data"]][:3] == ["a", "org/b", "bad"]
    assert [model["name"] for model in body["models"]][:3] == ["a", "org/b", "bad"]
    assert body["models"][0] == {
        "id": None,
        "name": "a",
        "type": "text",
        "status": "loaded",
        "memory_required_gb": 0.06,
        "use_count": body["models"][0]["use_count"],
        "last_used_at": body["models"][0]["last_used_at"],
        "created_at": None,
        "size_gb": 0.0,
        "pinned": False,
    }
    assert body["models"][2]["status"] == "failed"


def test_details_tell_why_a_model_failed(server: Server) -> None:
    found = server.get("/v1/models/bad").json()
    assert (found["id"], found["object"], found["name"]) == ("bad", "model", "bad")
    assert found["status"] == "failed"
    assert "can't be loaded" in found["error_message"]
    refused = post(server, "/v1/models/bad/load")
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "load_failed")


@pytest.mark.parametrize("name", ["a", "org/b", "org%2Fb"])
def test_model_is_unloaded_and_loaded_again(server: Server, name: str) -> None:
    plain = name.replace("%2F", "/")
    before = set(server.worker_pids())
    answer = post(server, f"/v1/models/{name}/unload")
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": f"Model '{plain}' unloaded successfully", "status": "unloaded"},
    )
    assert len(before - set(server.worker_pids())) == 1, "its process has ended"
    assert server.get(f"/v1/models/{name}/health").json()["healthy"] is False
    assert post(server, f"/v1/models/{name}/unload").status_code == 200
    answer = post(server, f"/v1/models/{name}/load?priority=3")
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": f"Model '{plain}' loaded successfully", "status": "loaded"},
    )
    assert server.chat("hi", model=plain).status_code == 200
    health = server.get(f"/v1/models/{name}/health").json()
    assert is_time(health.pop("last_used"))
    assert health == {"model": plain, "status": "loaded", "healthy": True}


def test_model_is_pinned_and_let_go_again(server: Server) -> None:
    for verb, pinned in (("pin", True), ("unpin", False)):
        answer = post(server, f"/v1/models/org/b/{verb}")
        assert (answer.status_code, answer.json()["pinned"]) == (200, pinned)
        assert listed(server)["org/b"]["pinned"] is pinned
    assert server.get("/v1/models/org/b/pin").status_code == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/nobody"),
        ("GET", "/v1/models/nobody/health"),
        ("POST", "/v1/models/nobody/load"),
        ("POST", "/v1/models/nobody/unload"),
        ("DELETE", "/v1/models/nobody"),
        ("GET", "/v1/manager/models/nobody/status"),
    ],
)
def test_unknown_model_is_not_found(server: Server, method: str, path: str) -> None:
    answer = server.http.request(method, f"{server.root}{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Model 'nobody' not found")


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/models/a/load?priority=high", "priority"),
        ("/v1/models/a/load?priority=1000001", "priority"),
        ("/v1/models/a/load?force=1", "force"),
        ("/v1/models/a/unload?now=1", "now"),
    ],
)
def test_bad_query_is_refused_by_name(server: Server, path: str, param: str) -> None:
    answer = post(server, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_generate_goes_on_with_a_prompt(server: Server) -> None:
    answer = post(server, "/v1/models/a/generate", {"prompt": "Once upon a time", "max_tokens": 5})
    body = answer.json()
    assert answer.status_code == 200
    assert body.keys() == {"model", "prompt", "text", "usage", "timing"}
    assert (body["model"], body["prompt"]) == ("a", "Once upon a time")
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens"] <= 5
    assert body["timing"]["generation_time_seconds"] > 0
    assert body["timing"]["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 16385}, "max_tokens"),
        ({"prompt": "x", "temperature": 2.1}, "temperature"),
        ({"prompt": "x", "top_p": 1.1}, "top_p"),
        ({"prompt": "x", "top_k": -2}, "top_k"),
        ({"prompt": "x", "repetition_penalty": 0}, "repetition_penalty"),
        ({"prompt": "x", "repetition_context_size": 0}, "repetition_context_size"),
        ({"prompt": "x", "seed": "s"}, "seed"),
        ({"prompt": "x", "stream": True}, "stream"),
    ],
)
def test_generate_refuses_what_is_out_of_range(server: Server, body: dict[str, Any], param: str) -> None:
    answer = post(server, "/v1/models/a/generate", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_generate_knows_no_other_model(server: Server) -> None:
    assert post(server, "/v1/models/nobody/generate", {"prompt": "x"}).status_code == 404


@pytest.mark.model
def test_generate_is_greedy_and_repeats_itself(folder_server: Server) -> None:
    body = {"prompt": "the quick", "max_tokens": 8, "repetition_penalty": 1.1, "top_k": 4, "top_p": 0.9}
    first, second = (post(folder_server, "/v1/models/one/generate", body).json() for _ in range(2))
    assert first["text"] == second["text"]
    sampled = {**body, "temperature": 1.0, "seed": 7}
    first, second = (post(folder_server, "/v1/models/one/generate", sampled).json() for _ in range(2))
    assert first["text"] == second["text"]


@pytest.mark.model
def test_model_that_is_not_loaded_tells_what_it_will_need(folder_server: Server) -> None:
    found = folder_server.get("/v1/models/sub/three").json()
    assert (found["status"], found["type"], found["context_length"]) == ("unloaded", "text", 512)
    assert found["memory_required_gb"] > 0.1
    assert found["path"].endswith("sub/three")
    assert post(folder_server, "/v1/models/sub/three/unload").json()["status"] == "unloaded"


@pytest.mark.model
def test_manager_tells_what_is_loaded(folder_server: Server) -> None:
    assert post(folder_server, "/v1/models/two/load").status_code == 200
    status = folder_server.get("/v1/manager/status").json()
    assert status.keys() == {"loaded_models", "system_status", "queue_status"}
    assert status["queue_status"] == []
    two = status["loaded_models"]["two"]
    assert is_time(two["loaded_at"])
    assert 0.05 < two["memory_usage_gb"] < 1
    assert two["config"]["model_type"] == "text-generation"
    assert two["config"]["estimated_memory_gb"] >= two["memory_usage_gb"]
    together = status["system_status"]
    assert together["loaded_models_count"] == len(status["loaded_models"])
    assert together["max_concurrent_models"] is None
    assert together["total_model_memory_gb"] >= two["memory_usage_gb"]
    assert together["auto_unload_enabled"] is True
    assert together["inactivity_timeout_minutes"] == 30
    one = folder_server.get("/v1/manager/models/two/status").json()
    assert (one["name"], one["status"], one["loaded"], one["queue_position"]) == ("two", "loaded", True, None)
    assert 0.05 < one["memory_usage_gb"] < 1


@pytest.mark.model
def test_model_is_deleted_with_its_files_or_without(folder_server: Server) -> None:
    path = Path(folder_server.get("/v1/models/sub/three").json()["path"])
    kept = folder_server.http.delete(f"{folder_server.root}/v1/models/sub/three?remove_files=false")
    assert kept.json() == {
        "message": "Model 'sub/three' deleted successfully",
        "removed_files": False,
        "status": "deleted",
    }
    assert path.is_dir()
    gone = folder_server.http.delete(f"{folder_server.root}/v1/models/sub/three")
    assert (gone.status_code, gone.json()["removed_files"]) == (200, True)
    assert not path.exists()
    assert "sub/three" not in listed(folder_server)
    refused = folder_server.http.delete(f"{folder_server.root}/v1/models/one?remove_files=perhaps")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "remove_files")


@pytest.mark.model
def test_model_that_cannot_be_read_is_refused(folder_server: Server) -> None:
    answer = post(folder_server, "/v1/models/rotten/load")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_servable")
    assert "model.safetensors" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["models/a/load", "models/a/unload", "manager/models/a/priority"])
def test_pages_of_other_sites_move_no_models(server: Server, path: str) -> None:
    assert post(server, f"/v1/{path}", {"priority": 1}, **FOREIGN).status_code == 403


def check_refused_to_delete(server: Server, name: str, *told: str) -> None:
    answer = server.http.delete(f"{server.root}/v1/models/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "model_configured")
    assert answer.headers["x-should-retry"] == "false"
    for part in (f"POST /v1/models/{name}/unload", *told):
        assert part in answer.json()["detail"]
    assert [model["id"] for model in server.get("/v1/models").json()["data"]].count(name) == 1
    assert server.chat("hi", model=name).status_code == 200


def test_model_of_the_command_line_is_not_deleted_and_says_how_to_be_rid_of_it(
    server: Server, launch: Callable[..., Server]
) -> None:
    check_refused_to_delete(server, "a", "the command line")
    check_refused_to_delete(launch("--model-type", "scripted", "--model-path", "scripted"), "scripted", "command line")


def test_model_of_the_configuration_is_not_deleted_and_says_how_to_be_rid_of_it(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    config = tmp_path / "models.toml"
    model = '[[model]]\nname = "m"\npath = "scripted"\ntype = "scripted"\naliases = ["other"]\n'
    config.write_text(model)
    server = launch("--config", config)
    check_refused_to_delete(server, "m", str(config), "SIGHUP")
    assert server.http.delete(f"{server.root}/v1/models/other").status_code == 409
    assert post(server, "/v1/models/m/unload").status_code == 200
    config.write_text("")
    server.process.send_signal(signal.SIGHUP)
    server.wait_until(lambda: server.get("/v1/models").json()["data"] == [])


@pytest.mark.model
def test_folder_is_listed_once_by_its_configured_name(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    one = copy(tiny_model("llama"), tmp_path / "models" / "one")
    copy(tiny_model("llama"), tmp_path / "models" / "two")
    env = {"HF_HUB_CACHE": str(tmp_path / "cache"), "MLX_SERVER_DATA_DIR": str(tmp_path / "data")}
    for _ in range(2):
        server = launch("--models-dir", tmp_path / "models", "--model", f"fast={one}", env=env)
        assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["fast", "two"]
        assert server.stop() == 0


def test_only_the_operator_deletes_and_installs(server: Server) -> None:
    assert server.http.delete(f"{server.root}/v1/models/a", headers=FOREIGN).status_code == 403
    assert post(server, "/v1/models/install", {"model_id": TINY}, **FOREIGN).status_code == 403
    assert server.http.post(f"{server.root}/v1/models/install", content=b"{}").status_code == 403
    assert server.get("/v1/models/a").status_code == 200


@pytest.mark.model
def test_model_is_installed_used_and_deleted(server: Server) -> None:
    answer = post(server, "/v1/models/install", {"model_id": TINY, "name": "tiny"})
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "message": "Model 'tiny' installed successfully",
            "model_name": "tiny",
            "model_id": TINY,
            "status": "installed",
        },
    )
    again = post(server, "/v1/models/install", {"model_id": TINY, "name": "tiny"})
    assert again.json() == answer.json()
    used = server.chat("hi", model="tiny", max_tokens=4)
    assert used.status_code == 200, used.text
    found = server.get("/v1/models/tiny").json()
    assert isinstance(found["registry_id"], int)
    assert (found["status"], found["type"], found["use_count"]) == ("loaded", "text", 1)
    assert is_time(found["created_at"])
    assert listed(server)["tiny"]["id"] == found["registry_id"]
    taken = post(server, "/v1/models/install", {"model_id": BROKEN, "name": "tiny"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "name_taken")
    gone = server.http.delete(f"{server.root}/v1/models/tiny")
    assert gone.json()["removed_files"] is True
    assert not Path(found["path"]).exists()
    assert server.get("/v1/models/tiny").status_code == 404


@pytest.mark.model
def test_model_whose_files_are_gone_is_installed_again(server: Server) -> None:
    def install() -> None:
        answer = post(server, "/v1/models/install", {"model_id": TINY, "name": "tiny"})
        assert (answer.status_code, answer.json()["status"]) == (200, "installed"), answer.text

    install()
    assert post(server, "/v1/models/tiny/load").status_code == 200
    folder = Path(server.get("/v1/models/tiny").json()["path"])
    files = {file.name for file in folder.iterdir()}
    for lost in ("model.safetensors", "tokenizer.json"):
        (folder / lost).resolve().unlink()
        install()
        assert (folder / lost).stat().st_size > 0
    shutil.rmtree(folder)
    install()
    assert {file.name for file in folder.iterdir() if file.is_file()} == files
    assert post(server, "/v1/models/tiny/unload").status_code == 200
    assert server.chat("hi", model="tiny", max_tokens=4).status_code == 200
    assert server.http.delete(f"{server.root}/v1/models/tiny").json()["removed_files"] is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model_id": "no/such"}, 404),
        ({"model_id": "not an id"}, 400),
        ({"model_id": TINY, "name": "../up"}, 400),
        ({"name": "x"}, 400),
        ({"model_id": BROKEN}, 502),
    ],
)
def test_what_cannot_be_installed_is_refused(server: Server, body: dict[str, Any], status: int) -> None:
    answer = post(server, "/v1/models/install", body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_waiting_load_has_a_place_in_the_line_that_can_change(launch: Callable[..., Server]) -> None:
    """`held` is busy and there is one place: loads wait until it is idle."""
    server = launch(
        "--model-type",
        "scripted",
        "--max-models",
        1,
        *("--model", "held=scripted"),
        "--model",
        "b=scripted",
        *("--model", "c=scripted"),
        wait=False,
    )
    server.wait_listening()
    server.wait_until(lambda: server.get("/v1/models/held/health").json()["healthy"])

    def place(name: str) -> int | None:
        return server.get(f"/v1/manager/models/{name}/status").json()["queue_position"]

    with ThreadPoolExecutor(3) as pool:
        busy = pool.submit(server.chat, {"tokens": 40, "interval_s": 0.1}, model="held")
        server.wait_until(lambda: server.get("/v1/queue/stats").json()["queue_stats"]["running_requests"] == 1)
        first = pool.submit(post, server, "/v1/models/b/load")
        server.wait_until(lambda: place("b") == 0)
        second = pool.submit(post, server, "/v1/models/c/load")
        server.wait_until(lambda: place("c") == 1)
        answer = post(server, "/v1/manager/models/c/priority", {"priority": 10})
        assert answer.json() == {"model": "c", "priority": 10, "message": "Priority update requested"}
        status = server.get("/v1/manager/status").json()
        assert [(load["model"], load["position"]) for load in status["queue_status"]] == [("c", 0), ("b", 1)]
        assert status["system_status"]["queue_size"] == 2
        assert status["system_status"]["max_concurrent_models"] == 1
        assert server.get("/v1/models/c").json()["status"] == "loading"
        for one in (busy, second, first):
            assert one.result().status_code == 200


@pytest.mark.parametrize("body", [{}, {"priority": "high"}, {"priority": 1.5}, {"priority": 10**9}])
def test_bad_priority_is_refused(server: Server, body: dict[str, Any]) -> None:
    answer = post(server, "/v1/manager/models/a/priority", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "priority")


@pytest.mark.model
def test_model_that_never_fits_is_refused_with_the_sizes(
    launch: Callable[..., Server], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    copy(tiny_model("llama"), tmp_path / "m")
    server = launch("--models-dir", tmp_path, "--memory-limit", "0.1", "--prefix-cache-mb", 0, wait=False)
    server.wait_listening()
    answer = post(server, "/v1/models/m/load")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "insufficient_memory")
    assert answer.json()["detail"].startswith("❌ Insufficient memory - 0.1GB available, 0.")
    assert not any(psutil.pid_exists(pid) for pid in server.worker_pids())
