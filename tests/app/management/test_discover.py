"""`/v1/discover`: models of a hub on this machine, as MLX-GUI shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.running.hub import LocalHub, Repo, running
from support.running.servers import SCRIPTED, Server, serving

FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"w" * (1 << 20)}
SMALL = "mlx-community/Llama-3.2-3B-Instruct-4bit"
REPOS = (
    Repo(SMALL, FILES, tags=("mlx", "conversational"), downloads=50, likes=1, parameters={"U32": 500_000_000}),
    Repo("mlx-community/Llama-70B", FILES, downloads=40, likes=9, parameters={"BF16": 70_000_000_000}),
    Repo(
        "mlx-community/other", FILES, downloads=30, parameters={"BF16": 1_000_000}, created="2025-02-01T10:00:00.000Z"
    ),
    Repo("author/torch", FILES, tags=(), library_name="transformers", downloads=20),
    Repo("mlx-community/secret", FILES, downloads=5, gated=True),
)
FIELDS = {
    *("id", "name", "author", "downloads", "likes", "model_type", "size_gb", "estimated_memory_gb", "mlx_compatible"),
    *("has_mlx_version", "mlx_repo_id", "tags", "description", "updated_at"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(LocalHub(*REPOS)) as hub:
        cache = tmp_path_factory.mktemp("cache")
        with serving(
            *SCRIPTED,
            env={"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_TOKEN": ""},
            until=Server.wait_listening,
        ) as server:
            yield server


def names(answer: dict[str, Any]) -> list[str]:
    return [model["name"] for model in answer["models"]]


def test_models_are_found(server: Server) -> None:
    found = server.get("/v1/discover/models", params={"query": "llama"}).json()
    assert found["total"] == 2
    first = found["models"][0]
    assert first.keys() == FIELDS
    assert (first["id"], first["author"]) == (SMALL, "mlx-community")
    assert (first["downloads"], first["likes"], first["model_type"]) == (50, 1, "text")
    assert (first["size_gb"], first["mlx_compatible"], first["has_mlx_version"]) == (2.0, True, True)
    assert first["estimated_memory_gb"] == pytest.approx(2.0e9 * 1.2 / 2**30 + 0.375, abs=0.01)
    assert first["updated_at"].startswith("2025-01-01T12:00:00")


def test_models_are_sorted_and_limited(server: Server) -> None:
    by_likes = server.get("/v1/discover/models", params={"sort": "likes", "limit": 1}).json()
    assert names(by_likes) == ["Llama-70B"]
    assert names(server.get("/v1/discover/models", params={"sort": "created"}).json())[0] == "other"
    assert names(server.get("/v1/discover/popular", params={"limit": 2}).json()) == [SMALL.split("/")[1], "Llama-70B"]


def test_categories_name_models(server: Server) -> None:
    found = server.get("/v1/discover/categories").json()["categories"]
    assert SMALL in found["Popular Text Models"]
    assert "mlx-community/Llama-70B" in found["Large Models (> 50GB)"]


def test_compatible_models_fit_into_the_memory_that_is_given(server: Server) -> None:
    found = server.get("/v1/discover/compatible", params={"query": "llama", "max_memory_gb": 4}).json()
    assert names(found) == ["Llama-3.2-3B-Instruct-4bit"]
    assert found["models"][0]["memory_fit"] is True
    assert found["models"][0].keys() == {*FIELDS, "memory_fit"}
    large = server.get("/v1/discover/compatible", params={"query": "llama", "max_memory_gb": 500}).json()
    assert large["total"] == 2
    here = names(server.get("/v1/discover/compatible", params={"query": "other"}).json())
    assert here == ["other"]


def test_details_say_whether_a_model_fits_here(server: Server) -> None:
    found = server.get("/v1/discover/models/mlx-community/other").json()
    assert {*FIELDS, "created_at", "library_name", "pipeline_tag"} <= found.keys()
    assert found["system_compatible"] is True
    assert found["compatibility_message"].startswith("✅ Compatible - ")
    assert (found["library_name"], found["pipeline_tag"]) == ("mlx", "text-generation")
    torch = server.get("/v1/discover/models/author%2Ftorch").json()
    assert torch["mlx_compatible"] is False


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("models/no/such", 404),
        ("models/no-id", 400),
        ("models?limit=0", 400),
        ("models?limit=101", 400),
        ("models?limit=many", 400),
        ("models?sort=size", 400),
        ("models?page=2", 400),
        (f"models?query={'x' * 201}", 400),
        ("popular?sort=likes", 400),
        ("categories?limit=1", 400),
        ("compatible?max_memory_gb=0", 400),
        ("compatible?max_memory_gb=nan", 400),
        ("compatible?max_memory_gb=lots", 400),
    ],
)
def test_what_cannot_be_found_is_refused(server: Server, path: str, status: int) -> None:
    answer = server.get(f"/v1/discover/{path}")
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_hub_that_is_away_is_said_to_be(launch: Any) -> None:
    server = launch(*SCRIPTED, env={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": ""}, wait=False)
    server.wait_listening()
    answer = server.get("/v1/discover/popular")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "hub_unreachable")
