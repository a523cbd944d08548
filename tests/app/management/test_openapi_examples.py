"""Every example of the served OpenAPI document, sent as it stands to a real server with a model of its kind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.pictures import picture_file, plain
from support.running.hub import LocalHub, repo_of, running
from support.running.raw import CHAT, RawClient, connect, http_request
from support.running.servers import Server, serving, wait_for
from support.sounds import wav
from support.tiny.judges import make_judge
from support.tiny.whisper import make_whisper

from mlx_server.app.openapi.examples import EXAMPLES, ON_THE_HUB
from mlx_server.app.openapi.openapi import document
from mlx_server.app.server.server import ROUTES

pytestmark = pytest.mark.model

POSTS = {path: item["post"] for path, item in document(ROUTES)["paths"].items() if "post" in item}
SENT = "/v1/requests/{id}/cancel"
LONG = b'{"prompt": "hi", "max_tokens": 1000, "ignore_eos": true, "stream": true}'
FILES = {
    "/v1/audio/transcriptions": {"file": ("sound.wav", wav(1), "audio/wav")},
    "/v1/audio/translations": {"file": ("sound.wav", wav(1), "audio/wav")},
    "/v1/images/edits": {"image": ("red.png", picture_file(plain(size=(32, 32))), "image/png")},
    "/v1/files": {"file": ("notes.txt", b"Hello world.", "text/plain")},
    "/v1/uploads/{id}/parts": {"data": ("part", b"Hello world.", "application/octet-stream")},
}
"""What is uploaded beside the fields of an example."""


@pytest.fixture(scope="module")
def writer(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a tiny model that writes, and a hub that has another."""
    with running(LocalHub(repo_of(tiny_model("llama"), ON_THE_HUB))) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path_factory.mktemp("cache")), "HF_TOKEN": ""}
        with serving("--model-path", tiny_model("llama"), "--max-concurrency", 2, env=env) as server:
            yield server


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a tiny model that ranks."""
    with serving("--model-path", make_judge(tmp_path_factory.mktemp("judge")), "--model-type", "rerank") as server:
        yield server


def send(server: Server, path: str, ids: dict[str, str] | None = None, **replaced: Any) -> httpx.Response:
    """An example, with ids of what was made before in its path and body."""
    operation = server.get("/openapi.json").json()["paths"][path]["post"]
    content = operation.get("requestBody", {}).get("content", {})
    address = server.root + path.format(**ids or {})
    if "multipart/form-data" in content:
        fields = content["multipart/form-data"]["example"]
        return server.http.post(address, data=fields, files=FILES[path])
    body = {**content["application/json"]["example"], **replaced} if content else None
    return server.http.post(address, json=body)


def made(server: Server, path: str) -> str:
    """The id of what an example makes."""
    answer = send(server, path)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def installed(server: Server) -> dict[str, str]:
    """The example's model, downloaded and loaded."""
    answer = send(server, "/v1/models/install")
    assert answer.status_code in (200, 409), answer.text
    assert send(server, "/api/models/load").status_code == 200
    return {"name": ON_THE_HUB, "model_id": ON_THE_HUB}


def batch(server: Server, count: int = 1) -> dict[str, Any]:
    """A batch's file, with so many lines that are the example of a chat completion."""
    lines = [
        json.dumps({"custom_id": str(number), "method": "POST", "url": CHAT, "body": EXAMPLES[CHAT]})
        for number in range(count)
    ]
    file = server.http.post(f"{server.root}/v1/files", data={"purpose": "batch"}, files={"file": "\n".join(lines)})
    return {"input_file_id": file.json()["id"]}


def messages(server: Server) -> dict[str, str]:
    """A batch of messages that does not end at once."""
    lines = [{"custom_id": str(number), "params": EXAMPLES["/v1/messages"]} for number in range(1000)]
    return {"id": send(server, "/v1/messages/batches", requests=lines).json()["id"]}


def background(server: Server) -> dict[str, str]:
    """A response that is made in the background."""
    answer = send(server, "/v1/responses", background=True)
    return {"id": answer.json()["id"]}


FIRST: dict[str, Callable[[Server], dict[str, str]]] = {
    **{
        path: lambda server: {"id": made(server, "/v1/conversations")}
        for path in POSTS
        if "/conversations/{id}" in path
    },
    **{path: lambda server: {"id": made(server, "/v1/uploads")} for path in POSTS if "/uploads/{id}" in path},
    **{path: installed for path in POSTS if "{name}" in path or "{model_id}" in path},
    "/v1/batches/{id}/cancel": lambda server: {"id": send(server, "/v1/batches", **batch(server, 1000)).json()["id"]},
    "/v1/messages/batches/{id}/cancel": messages,
    "/v1/responses/{id}/cancel": background,
    "/api/models/load": installed,
    "/api/models/unload": installed,
}
"""What has to be there before an example is sent, and its names in the path."""


def check(server: Server, path: str) -> None:
    ids = FIRST.get(path, lambda _: {})(server)
    replaced: dict[str, Any] = {}
    if path == "/v1/uploads/{id}/complete":
        part = send(server, "/v1/uploads/{id}/parts", ids)
        replaced = {"part_ids": [part.json()["id"]]}
    elif path == "/v1/batches":
        replaced = batch(server)
    answer = send(server, path, ids, **replaced)
    assert answer.status_code == 200, answer.text


def group(*starts: str) -> list[str]:
    return [path for path in POSTS if path.startswith(starts)]


EMBEDS = group("/v1/embeddings")
RANKS = group("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score")
STUDIO = group("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/images")
TRANSLATES = "/v1/audio/translations"
ENDS = group("/v1/system")
WRITES = [path for path in POSTS if path not in {*EMBEDS, *RANKS, *STUDIO, *ENDS, SENT, TRANSLATES}]


def test_every_post_that_takes_a_body_has_an_example() -> None:
    assert EXAMPLES.keys() == {path for path, post in POSTS.items() if "requestBody" in post}
    for path, post in POSTS.items():
        for media in post.get("requestBody", {}).get("content", {}).values():
            assert media["example"] == EXAMPLES[path]


def test_every_post_is_described_in_more_than_its_summary() -> None:
    for post in POSTS.values():
        assert post["description"] != post["summary"]
        assert len(post["description"].split()) > 3


@pytest.mark.parametrize("path", WRITES)
def test_example_is_answered(writer: Server, path: str) -> None:
    check(writer, path)


def test_paths_of_posts_name_a_model_that_is_there(scripted_server: Server) -> None:
    paths = scripted_server.get("/openapi.json").json()["paths"]
    for path in ("/v1/models/{name}/pin", "/v1/models/{name}/unpin", "/v1/models/{name}/load"):
        name = paths[path]["post"]["parameters"][0]["example"]
        assert scripted_server.post(path.format(name=name), b"").status_code == 200
    assert "example" not in paths["/v1/models/{name}"]["delete"]["parameters"][0], "which nobody presses unawares"


def test_examples_name_the_models_of_the_right_kind_where_there_are_several(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path], minilm: Path, tmp_path: Path
) -> None:
    config = tmp_path / "models.toml"
    config.write_text(f'[models.reader]\npath = "{minilm}"\n[models.writer]\npath = "{tiny_model("llama")}"\n')
    server = launch("--config", config)
    for path in (CHAT, "/v1/messages", "/v1/embeddings", "/rerank", "/tokenize", "/v1/models/{name}/generate"):
        operation = server.get("/openapi.json").json()["paths"][path]["post"]
        names = {"name": operation["parameters"][0].get("example", "")}
        answer = send(server, path, names)
        assert answer.status_code == 200, (path, answer.text)
        answered = "reader" if path in ("/v1/embeddings", "/rerank") else "writer"
        assert answer.json().get("model", answered) == answered
    batches = server.get("/openapi.json").json()["paths"]["/v1/messages/batches"]["post"]
    lines = batches["requestBody"]["content"]["application/json"]["example"]["requests"]
    assert lines[0]["params"]["model"] == "writer"


@pytest.mark.parametrize("path", EMBEDS)
def test_example_is_answered_with_vectors(minilm_server: Server, path: str) -> None:
    check(minilm_server, path)


@pytest.mark.parametrize("path", RANKS)
def test_example_is_answered_with_scores(judge: Server, path: str) -> None:
    check(judge, path)


@pytest.mark.parametrize("path", STUDIO)
def test_example_is_answered_with_media(studio_server: Server, path: str) -> None:
    check(studio_server, path)


def test_example_is_answered_with_a_translation(
    launch: Callable[..., Server], whisper_tiny: Path, tmp_path: Path
) -> None:
    folder = make_whisper(tmp_path / "whisper", whisper_tiny, many_languages=True)
    check(launch("--model-path", folder), TRANSLATES)


def test_request_is_cancelled_as_in_the_document(writer: Server) -> None:
    sock = connect(writer)
    sock.sendall(http_request(CHAT.replace("chat/", ""), LONG, {"X-Request-Id": "example"}))
    with contextlib.closing(sock), RawClient.of(sock) as client:
        client.read_until(b"data: ")
        assert send(writer, SENT, {"id": "example"}).status_code == 200
        assert b"request_cancelled" in client.read_until(b"request_cancelled")


def test_server_is_restarted_and_ended_as_in_the_document(launch: Callable[..., Server]) -> None:
    server = launch("--model-path", "scripted", "--model-type", "scripted")
    assert send(server, "/v1/system/restart").status_code == 200
    assert send(server, "/v1/system/shutdown").status_code == 200
    wait_for(lambda: server.process.poll() == 0, what=server.output)
    assert {*ENDS} == {"/v1/system/restart", "/v1/system/shutdown"}
