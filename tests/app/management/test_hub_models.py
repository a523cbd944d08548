"""Requests name models of the hub, here one on this machine; they are downloaded on first use where that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.running.hub import LocalHub, repo_of, running
from support.running.servers import Server
from support.running.stored import store
from support.tiny.encoders import make_encoder

WRITER = "mlx-community/tiny-llama"
READER = "mlx-community/tiny-bert"


@pytest.fixture
def hub(tiny_model: Callable[[str], Path], tmp_path: Path) -> Iterator[LocalHub]:
    (tmp_path / "bert").mkdir()
    encoder = make_encoder(tmp_path / "bert", "bert")
    with running(LocalHub(repo_of(tiny_model("llama"), WRITER, pause_s=0.2), repo_of(encoder, READER))) as local:
        yield local


@pytest.mark.model
def test_model_of_the_hub_is_downloaded_on_first_use(
    launch: Callable[..., Server], hub: LocalHub, tmp_path: Path
) -> None:
    store(tmp_path, huggingface_cache_dir=str(tmp_path / "hub"))
    (tmp_path / "models").mkdir()
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": ""}
    flags = ("--models-dir", tmp_path / "models", "--data-dir", tmp_path)
    server = launch(*flags, "--auto-download", "--model", f"reader={READER}", env=env, wait=False)
    server.wait_ready()
    answer = server.post("/v1/embeddings", {"model": "reader", "input": "the cat"})
    assert answer.status_code == 200, "its files say what it is"
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.chat, "hi", model=WRITER, max_tokens=2) for _ in range(2)]
        server.wait_until(lambda: server.get("/health").json()["models"].get(WRITER) == "loading")
        assert [answer.result().status_code for answer in waiting] == [200, 200], server.output()
    assert len({asked.path for asked in hub.asked_for("/lfs/")}) == len(hub.asked_for("/lfs/")), "each file once"
    assert server.chat("hi", model="reader").status_code == 400
    unknown = server.chat("hi", model="mlx-community/none")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "hub_model_not_found")
    kept = {path.name for path in (tmp_path / "hub").glob("models--*")}
    assert kept == {f"models--{name.replace('/', '--')}" for name in (WRITER, READER)}
    assert server.stop() == 0
    hub.requests.clear()
    again = launch(*flags, env={**env, "HF_HUB_CACHE": str(tmp_path / "empty")}, wait=False)
    again.wait_listening()
    refused = again.chat("hi", model="mlx-community/other")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "--auto-download" in refused.json()["detail"]
    assert hub.requests == []
