"""Models are deleted that can't be served, and while they are downloaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.servers import Server

TINY = "mlx-community/tiny-llama"
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
ODD = {
    "config.json": b'{"model_type": "no_such_type", "architectures": ["Odd"]}',
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(4),
    "tokenizer.json": b"{}",
}
"""A model of a type that nobody knows."""


@pytest.fixture(scope="module")
def hub(tiny_model: Callable[[str], Path]) -> Iterator[LocalHub]:
    with running(LocalHub(repo_of(tiny_model("llama"), TINY))) as local:
        yield local


@pytest.fixture
def start(launch: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Starts a server with a folder of models and a cache of the hub's, both below `tmp_path`."""

    def start(**env: str) -> Server:
        (tmp_path / "models").mkdir(exist_ok=True)
        env = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN": "", **env}
        server = launch("--models-dir", tmp_path / "models", env=env, wait=False)
        server.wait_listening()
        return server

    return start


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def listed(server: Server) -> list[str]:
    return [model["name"] for model in server.get("/v1/models").json()["models"]]


def deleted(server: Server, name: str) -> dict[str, Any]:
    answer = server.http.delete(f"{server.root}/v1/models/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def downloading(server: Server) -> list[psutil.Process]:
    """The processes that download."""
    children = psutil.Process(server.process.pid).children()
    return [one for one in children if "mlx_server.app.hub.download_process" in one.cmdline()]


def test_model_that_cannot_be_served_is_deleted_with_its_files(start: Callable[..., Server], tmp_path: Path) -> None:
    repository, folder = tmp_path / "cache" / "models--org--odd", tmp_path / "models" / "odd"
    write(repository / "snapshots" / ("a" * 40), ODD)
    write(repository / "refs", {"main": b"a" * 40})
    write(folder, ODD)
    server = start()
    for name, place in (("org/odd", repository), ("odd", folder)):
        assert name in listed(server)
        gone = deleted(server, name)
        assert (gone["removed_files"], gone["status"]) == (True, "deleted")
        assert not place.exists()
        assert name not in listed(server)
        assert server.http.delete(f"{server.root}/v1/models/{name}").status_code == 404


def test_what_is_nowhere_is_not_deleted_where_requests_may_download_it(
    launch: Callable[..., Server], hub: LocalHub, tmp_path: Path
) -> None:
    env = {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": hub.url}
    server = launch("--auto-download", env=env, wait=False)
    server.wait_listening()
    assert server.http.delete(f"{server.root}/v1/models/{TINY}").status_code == 404


@pytest.mark.model
@pytest.mark.parametrize("name", ["tiny", TINY])
def test_model_that_is_being_downloaded_is_deleted_with_its_download(
    start: Callable[..., Server], hub: LocalHub, tmp_path: Path, name: str
) -> None:
    """It is downloaded as `tiny`, and deleted by that name or by the one that the hub's cache gives it."""
    server = start(HF_ENDPOINT=hub.url)
    body = {"model_id": TINY, "name": "tiny"}
    assert server.http.post(f"{server.root}/v1/models/install", json=body).status_code == 200
    if name == TINY:
        deleted(server, "tiny?remove_files=false")
    repository = tmp_path / "cache" / "models--mlx-community--tiny-llama"
    hub.repos[TINY].pause_s, asked = 60, len(hub.asked_for("/lfs/"))
    try:
        again = server.http.post(f"{server.root}/api/models/download", json={**body, "force_download": True})
        id_ = again.json()["data"]["download_id"]
        server.wait_until(lambda: hub.asked_for("/lfs/")[asked:])
        [process] = downloading(server)
        assert deleted(server, name)["removed_files"] is True
    finally:
        hub.repos[TINY].pause_s = 0
    assert server.get(f"/api/models/downloads/{id_}").json()["status"] == "cancelled"
    assert not process.is_running()
    assert not repository.exists()
    assert not {"tiny", TINY} & {*listed(server)}
