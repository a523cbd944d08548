"""Models are found and downloaded below /api/models, from a hub on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running.hub import LocalHub, Repo, repo_of, running
from support.running.servers import SCRIPTED, Server, serving
from support.running.streams import events

MISTRAL = "mlx-community/Mistral-7B-Instruct-v0.3-4bit"
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"w" * (1 << 20)}
JSON = {"Content-Type": "application/json"}
FOUR_BITS = {"model_type": "mistral", "quantization_config": {"bits": 4}}
REPOS = (
    Repo("mlx-community/Llama-70B", FILES, downloads=40, parameters={"BF16": 70_000_000_000}),
    Repo("mlx-community/unknown-size", FILES, downloads=30),
    Repo("mlx-community/whisper", FILES, downloads=20, pipeline_tag="automatic-speech-recognition"),
    Repo("mlx-community/slow", FILES, downloads=10, pause_s=5.0),
    Repo("mlx-community/secret", FILES, downloads=5, gated=True),
)


@pytest.fixture(scope="module")
def hub(tiny_model: Callable[[str], Path]) -> Iterator[LocalHub]:
    mistral = repo_of(
        tiny_model("llama"),
        MISTRAL,
        tags=("mlx", "conversational"),
        downloads=50,
        config=FOUR_BITS,
        parameters={"U32": 906_000_000, "F16": 227_000_000},
    )
    with running(LocalHub(mistral, *REPOS)) as local:
        yield local


@pytest.fixture(scope="module")
def server(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    cache = tmp_path_factory.mktemp("cache")
    with serving(*SCRIPTED, env={"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_TOKEN": ""}) as server:
        yield server


def download(server: Server, **body: Any) -> dict[str, Any]:
    answer = server.post("/api/models/download", body, headers=JSON)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def state(server: Server, id_: str) -> dict[str, Any]:
    return dict(server.get(f"/api/models/downloads/{id_}").json())


def ended(server: Server, id_: str) -> dict[str, Any]:
    server.wait_until(lambda: state(server, id_)["status"] not in ("waiting", "downloading"))
    return state(server, id_)


def test_discovery_tells_what_the_hub_tells(server: Server) -> None:
    found = server.get("/api/models/discover").json()
    assert [model["model_id"].rpartition("/")[2] for model in found["models"]] == [
        "Mistral-7B-Instruct-v0.3-4bit",
        "Llama-70B",
        "unknown-size",
        "slow",
        "secret",
    ]
    assert found["total_models"] == 5
    assert found["categories"] == ["instruct", "base", "code", "vision", "embedding"]
    assert found["hardware_compatibility"]["mlx_support"] is True
    mistral, llama, unknown, *_ = found["models"]
    assert mistral == {
        "model_id": MISTRAL,
        "name": "Mistral 7B Instruct v0.3 (4-bit)",
        "description": "Text generation model: mistral, 7.2B parameters, 4-bit",
        "size_gb": 4.08,
        "parameters": "7.2B",
        "architecture": "mistral",
        "quantization": "4-bit",
        "performance_estimate": {
            "tokens_per_second_m1": 16.7,
            "tokens_per_second_m2": 24.5,
            "tokens_per_second_m3": 24.5,
        },
        "recommended_memory_gb": 8.0,
        "tags": ["mlx", "conversational"],
        "is_downloaded": mistral["is_downloaded"],
    }
    assert (llama["performance_estimate"], llama["recommended_memory_gb"]) == (None, 256.0)
    assert (unknown["size_gb"], unknown["recommended_memory_gb"]) == (None, None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("category=instruct", [MISTRAL]),
        ("category=base&size_limit_gb=200", ["mlx-community/Llama-70B"]),
        ("size_limit_gb=10", [MISTRAL]),
        ("category=vision", []),
    ],
)
def test_discovery_is_narrowed_by_category_and_size(server: Server, query: str, expected: list[str]) -> None:
    found = server.get(f"/api/models/discover?{query}").json()
    assert [model["model_id"] for model in found["models"]] == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [("category=toys", "category"), ("size_limit_gb=-1", "size_limit_gb"), ("size_limit_gb=nan", "size_limit_gb"),
     ("size_limit_gb=big", "size_limit_gb"), ("size=3", "size")],
)  # fmt: skip
def test_a_wrong_query_is_refused_by_name(server: Server, query: str, param: str) -> None:
    answer = server.get(f"/api/models/discover?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert "allowed" in answer.json()["detail"]


def test_a_download_is_followed_to_its_end(server: Server) -> None:
    started = download(server, model_id=MISTRAL, name="mistral")
    assert started["model_id"] == MISTRAL
    assert started["estimated_size_gb"] == 0.0
    done = ended(server, started["download_id"])
    assert (done["status"], done["error"], done["eta_seconds"]) == ("completed", None, None)
    assert (done["name"], done["progress_percent"]) == ("mistral", 100.0)
    assert done["done_bytes"] == done["total_bytes"] > 100_000
    assert done in server.get("/api/models/downloads").json()["downloads"]
    [mistral] = server.get("/api/models/discover?category=instruct").json()["models"]
    assert mistral["is_downloaded"] is True
    again = download(server, model_id=MISTRAL, name="mistral", force_download=True)
    assert again["download_id"] == started["download_id"]
    assert ended(server, again["download_id"])["status"] == "completed"
    refused = server.post("/api/models/download", {"model_id": "mlx-community/slow", "name": "mistral"}, headers=JSON)
    assert refused.status_code == 409
    assert MISTRAL in refused.json()["detail"]


def test_what_was_downloaded_is_no_model(server: Server) -> None:
    failed = ended(server, download(server, model_id="mlx-community/unknown-size")["download_id"])
    assert failed["status"] == "failed"
    assert "is not a model" in failed["error"]


def test_a_download_can_be_cancelled(server: Server) -> None:
    id_ = download(server, model_id="mlx-community/slow")["download_id"]
    assert download(server, model_id="mlx-community/slow")["download_id"] == id_
    server.wait_until(lambda: state(server, id_)["total_bytes"] > 0)
    assert server.http.delete(f"{server.root}/api/models/downloads/{id_}").json()["status"] == "cancelled"
    assert state(server, id_)["status"] == "cancelled"


def test_live_stream_tells_of_downloads_as_their_list_does(server: Server) -> None:
    with server.http.stream("GET", f"{server.root}/v1/live?with=downloads") as answer:
        states = events(answer.iter_lines())
        assert next(states)["downloads"] == server.get("/api/models/downloads").json()["downloads"]
        id_ = download(server, model_id="mlx-community/slow")["download_id"]
        told = (one for state in states for one in state["downloads"] if one["download_id"] == id_)
        assert next(one for one in told if one["total_bytes"])["status"] == "downloading"
        assert server.http.delete(f"{server.root}/api/models/downloads/{id_}").status_code == 200
        assert next(one for one in told if one["status"] != "downloading") == state(server, id_)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "model_id"),
        ({"model_id": 3}, 400, "model_id"),
        ({"model_id": MISTRAL, "name": "../x"}, 400, "name"),
        ({"model_id": "mlx-community/none"}, 404, None),
        ({"model_id": "no id"}, 400, None),
        ({"model_id": "mlx-community/secret"}, 403, None),
    ],
)
def test_what_cannot_be_downloaded_is_refused(
    server: Server, body: dict[str, Any], status: int, param: str | None
) -> None:
    answer = server.post("/api/models/download", body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_download_that_a_killed_server_left_is_gone_on_with(hub: LocalHub, tmp_path: Path) -> None:
    env = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN": "",
        "MLX_SERVER_DATA_DIR": str(tmp_path),
    }
    slow = hub.repos[MISTRAL]
    slow.pause_s = 1.0
    first = Server(*SCRIPTED, env=env)
    first.wait_listening()
    id_ = download(first, model_id=MISTRAL)["download_id"]
    first.wait_until(lambda: state(first, id_)["done_bytes"] > 10_000)
    first.process.kill()
    first.close()
    slow.pause_s = 0.0
    second = Server(*SCRIPTED, env=env)
    try:
        second.wait_listening()
        left = state(second, id_)
        assert (left["status"], left["total_bytes"] > 100_000) == ("interrupted", True)
        hub.requests.clear()
        assert download(second, model_id=MISTRAL)["download_id"] == id_
        assert ended(second, id_)["status"] == "completed"
        assert hub.asked_for("model.safetensors")[1].range is not None
    finally:
        second.close()


def test_an_unknown_download_is_not_found(server: Server) -> None:
    assert server.get("/api/models/downloads/download-none").status_code == 404
    assert server.http.delete(f"{server.root}/api/models/downloads/download-none").status_code == 404


def test_pages_of_other_sites_may_not_download(server: Server) -> None:
    headers = {**JSON, "Origin": "http://elsewhere.example"}
    assert server.post("/api/models/download", {"model_id": MISTRAL}, headers=headers).status_code == 403


def test_a_hub_that_fails_is_told_as_that(server: Server, hub: LocalHub) -> None:
    hub.status = 502
    try:
        answer = server.post("/api/models/download", {"model_id": "a/other"}, headers=JSON)
    finally:
        hub.status = 0
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "hub_unreachable"
