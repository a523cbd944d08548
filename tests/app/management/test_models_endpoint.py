"""`/v1/models`: what is served, under the name it was given."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from support.running.clients import sdk
from support.running.servers import READY_S, ROOT, SCRIPTED, Server, serving
from support.tiny.encoders import make_encoder
from support.tiny.vectors import EMBEDDINGS, RERANK

from mlx_server.app.config.settings import ModelType
from mlx_server.app.registry.registry import FILE, Registry
from mlx_server.app.routes.management.models import Abilities, supported_parameters
from mlx_server.schemas.openai.common import HARMLESS

EXIT_MODEL = 3
NAME = "org/sub/name:4bit"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*SCRIPTED, "--model-name", NAME) as server:
        yield server


def test_list_has_the_one_model(server: Server) -> None:
    body = server.get("/v1/models").json()
    assert body.keys() == {"object", "data", "first_id", "last_id", "has_more", "models"}
    assert (body["object"], body["first_id"], body["last_id"], body["has_more"]) == ("list", NAME, NAME, False)
    [model] = body["data"]
    created = model.pop("created")
    assert time.time() - 600 < created == datetime.fromisoformat(model.pop("created_at")).timestamp() <= time.time()
    parameters = model.pop("supported_parameters")
    assert model == {
        "id": NAME,
        "object": "model",
        "owned_by": "mlx-server",
        "status": "loaded",
        **dict.fromkeys(("context_length", "max_model_len", "context_window", "max_input_tokens"), 1 << 24),
        "native_context_length": 1 << 24,
        "default_max_tokens": 1 << 24,
        "modalities": {"input": ["text", "image", "audio", "video"], "output": ["text"]},
        "features": {
            "tools": False,
            "structured_outputs": False,
            "reasoning": False,
            "embeddings": True,
            "rerank": True,
            "dimensions": 8,
        },
        "root": NAME,
        "parent": None,
        "permission": [],
        "display_name": NAME,
        "lifecycle": "active",
        "type": "model",
    }
    assert parameters == sorted(set(parameters))
    assert {"temperature", "tools", "response_format", "logprobs", "best_of", "n", "stream"} <= set(parameters)
    assert not {"model", "messages", "prompt", *HARMLESS} & set(parameters)


def test_documentation_names_every_parameter(server: Server) -> None:
    supported = server.get(f"/v1/models/{NAME}").json()["supported_parameters"]
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in (*supported, *HARMLESS) if f"`{name}`" not in page] == []


def test_every_supported_parameter_is_known_to_an_endpoint(server: Server) -> None:
    for name in server.get(f"/v1/models/{NAME}").json()["supported_parameters"]:
        answers = [
            server.chat("hi", **{name: None}),
            server.complete("hi", **{name: None}),
            server.post(EMBEDDINGS, {"input": "hi", name: None}),
            server.post(RERANK, {"query": "hi", "documents": ["hi"], name: None}),
        ]
        assert [answer.status_code for answer in answers] == [200] * 4, name
        assert any("x-ignored-fields" not in answer.headers for answer in answers), name


@pytest.mark.parametrize(
    ("model_type", "embeds", "sees", "has", "has_not"),
    [
        ("embeddings", False, False, {"dimensions", "top_n"}, {"image_url", "instruction", "temperature"}),
        ("embeddings", True, True, {"dimensions", "top_n", "image_url"}, {"instruction", "temperature"}),
        ("rerank", False, False, {"top_n", "instruction"}, {"dimensions", "image_url", "temperature"}),
        ("lm", True, False, {"temperature", "dimensions", "top_n"}, {"image_url", "instruction"}),
        ("vlm", True, True, {"temperature", "dimensions", "top_n", "image_url"}, {"instruction"}),
        ("lm", False, False, {"temperature"}, {"dimensions", "top_n", "image_url", "instruction"}),
    ],
)
def test_parameters_are_those_that_the_model_does_not_refuse(
    model_type: ModelType, embeds: bool, sees: bool, has: set[str], has_not: set[str]
) -> None:
    names = set(supported_parameters(model_type, Abilities(embeds, sees)))
    assert has <= names
    assert not has_not & names


@pytest.mark.parametrize("path", [NAME, NAME.replace("/", "%2F"), NAME.replace(":", "%3A")])
def test_model_is_found_by_its_name_with_slashes(server: Server, path: str) -> None:
    found, listed = server.get(f"/v1/models/{path}").json(), server.get("/v1/models").json()["data"][0]
    assert {name: found[name] for name in listed} == listed | {"type": "text"}


def test_sdk_retrieves_a_name_with_slashes(server: Server) -> None:
    with sdk(server) as client:
        assert client.models.retrieve(NAME).id == NAME


@pytest.mark.parametrize("name", ["gpt-4o-mini", "org", "org/sub", f"{NAME}/more", NAME.upper()])
def test_only_model_is_found_by_any_name_as_requests_reach_it(server: Server, name: str) -> None:
    with sdk(server) as client:
        found = client.models.retrieve(name)
    assert (found.id, found.model_extra and found.model_extra["root"]) == (name, NAME)
    assert [model["id"] for model in server.get("/v1/models").json()["data"]] == [NAME]


def test_models_of_earlier_launches_are_neither_listed_nor_named(
    launch: Callable[..., Server], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    env = {"MLX_SERVER_DATA_DIR": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "cache")}
    folder = tiny_model("llama")
    rotten = shutil.copytree(folder, tmp_path / "rotten")
    (rotten / "tokenizer.json").write_text("{")
    first = launch("--model", f"gpt-4o-mini={folder}", "--model", f"broken={rotten}", env=env, wait=False)
    first.wait_listening()
    first.wait_until(lambda: first.get("/health/ready").status_code == 200)
    assert first.stop() == 0

    alone = launch(*SCRIPTED, "--model-name", "own", env=env)
    assert [model["id"] for model in alone.get("/v1/models").json()["data"]] == ["own"]
    answer = alone.chat("hi", model="gpt-4o-mini")
    assert answer.headers.get("x-ignored-fields") is None
    assert alone.get("/v1/queue/stats").json()["models"].keys() == {"own"}, "nothing else was loaded"
    assert alone.post("/v1/models/gpt-4o-mini/load", b"").status_code == 200, "but the operator may have it"
    assert {model["id"] for model in alone.get("/v1/models").json()["data"]} == {"own", "gpt-4o-mini"}
    assert alone.complete("hi", model="gpt-4o-mini", max_tokens=1).status_code == 200
    assert alone.get("/v1/queue/stats").json()["models"].keys() == {"own", "gpt-4o-mini"}
    assert alone.stop() == 0

    several = launch("--model", "a=scripted", "--model", "b=scripted", "--model-type", "scripted", env=env)
    assert [model["id"] for model in several.get("/v1/models").json()["data"]] == ["a", "b", "gpt-4o-mini"]
    assert several.get("/v1/models/nobody").status_code == 404


def test_launch_that_failed_is_not_registered(
    launch: Callable[..., Server], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    rotten = shutil.copytree(tiny_model("llama"), tmp_path / "rotten")
    (rotten / "tokenizer.json").write_text("{")
    env = {"MLX_SERVER_DATA_DIR": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "cache")}
    failed = launch("--model-path", rotten, "--model-name", "gpt-4o-mini", env=env, wait=False)
    assert failed.process.wait(READY_S) == EXIT_MODEL
    registry = Registry.open(tmp_path / FILE)
    assert asyncio.run(registry.models()) == []
    registry.close()


@pytest.mark.model
@pytest.mark.parametrize(
    ("flags", "kind", "takes"), [((), "vision", ["text", "image"]), (("--model-type", "lm"), "text", ["text"])]
)
def test_vision_model_says_that_it_sees_before_it_is_loaded_and_after(
    launch: Callable[..., Server], flags: tuple[str, ...], kind: str, takes: list[str]
) -> None:
    server = launch("--model-path", ROOT / "tests" / "shapes" / "model", *flags, wait=False)
    server.wait_listening()
    before = server.get("/v1/models/model").json()
    assert (before["type"], before["modalities"]["input"]) == (kind, takes)
    assert ("is served as --model-type vlm, as its files say" in server.output()) is not bool(flags)
    server.wait_ready()
    after = server.get("/v1/models/model").json()
    assert (after["type"], after["modalities"]["input"][: len(takes)]) == (kind, takes)
    assert ("image" in after["modalities"]["input"]) is (kind == "vision")


@pytest.mark.model
@pytest.mark.parametrize("classifier", [False, True], ids=["embedding", "reranker"])
def test_encoder_is_served_as_what_it_is(launch: Callable[..., Server], tmp_path: Path, classifier: bool) -> None:
    folder = make_encoder(tmp_path / "m", "bert", classifier=classifier)
    server = launch("--model-path", folder)
    assert server.get("/v1/models/m").json()["type"] == ("reranker" if classifier else "embedding")
    answer = server.post("/v1/rerank", {"query": "red", "documents": ["red", "blue"]})
    assert (answer.status_code, len(answer.json()["results"])) == (200, 2)


def test_answers_carry_the_configured_name_or_the_clients(server: Server) -> None:
    assert server.chat("hi").json()["model"] == NAME
    assert server.chat("hi", model="other").json()["model"] == "other"
    assert server.get("/v1/queue/stats").json()["models"].keys() == {NAME}


@pytest.mark.model
def test_name_comes_from_the_folder(launch: Callable[..., Server], tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("llama")
    server = launch("--model-path", folder, wait=False)
    server.wait_listening()
    [model] = server.get("/v1/models").json()["data"]
    assert (model["id"], model["context_length"], model["native_context_length"]) == (folder.name, 512, 512)
    assert set(model["features"].values()) == {None}
    server.wait_ready()
    model = server.get(f"/v1/models/{folder.name}").json()
    assert (model["context_length"], model["default_max_tokens"]) == (512, 512)
    assert (model["max_model_len"], model["native_context_length"]) == (512, 512)
    features = model["features"]
    assert (features["tools"], features["structured_outputs"], features["reasoning"]) == (True, True, False)
