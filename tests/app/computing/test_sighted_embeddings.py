"""Embeddings of texts and pictures by a model that does nothing else: over HTTP, with OpenAI's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openai
import pytest
from PIL import Image
from support.computing import Computing, cosines
from support.pictures import halves, picture_file, plain
from support.running.clients import sdk
from support.running.servers import Server, serving
from support.tiny.sighted_models import make_qwen3_vl

from mlx_server.schemas.internal.embedding import EmbeddingInput, EmbeddingRequest
from mlx_server.schemas.internal.generation import Media

pytestmark = pytest.mark.model

RED, HALVES = plain("red", (64, 64)), halves()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen3_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving("--model-path", folder, "--model-type", "embeddings") as server:
        yield server


def address(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(picture_file(picture)).decode()


def embed(client: openai.OpenAI, texts: Any, pictures: Any = None) -> tuple[npt.NDArray[np.float64], int]:
    extra = {"image_url": pictures} if pictures else None
    answer = client.embeddings.create(model="m", input=texts, extra_body=extra)
    return np.array([one.embedding for one in answer.data]), answer.usage.prompt_tokens


def test_vectors_are_those_of_the_model(server: Server, folder: Path) -> None:
    computing = Computing(folder)
    media = tuple(Media("image", picture_file(picture), 0, "input") for picture in (RED, HALVES))
    given = (EmbeddingInput("red", "input"), *(EmbeddingInput("", "input", (one,)) for one in media))
    [told] = computing.ask(EmbeddingRequest(given))
    computing.handler.close()
    with sdk(server) as client:
        [text], few = embed(client, "red")
        pictures, many = embed(client, ["", ""], [address(RED), address(HALVES)])
    assert cosines([text, *pictures], told.vectors).min() > 0.9999
    assert told.finished is not None
    assert few + many == told.finished.prompt_tokens


def test_many_clients_get_their_own_vectors(server: Server) -> None:
    with sdk(server) as client:
        inputs = [f"a circle of size {number}" for number in range(12)]
        together, _ = embed(client, inputs)
        shown, _ = embed(client, inputs[:3], [address(RED), address(HALVES), address(RED)])
        again, _ = embed(client, inputs[1], address(HALVES))
    assert np.allclose(together[5], embed_one(server, inputs[5]), atol=1e-4)
    assert np.allclose(shown[1], again[0], atol=1e-4)
    assert np.abs(together[:3] - shown).max() > 1e-3


def embed_one(server: Server, text: str) -> npt.NDArray[np.float64]:
    with sdk(server) as client:
        return np.array(embed(client, text)[0][0])


def test_documents_are_ranked_by_their_likeness(server: Server) -> None:
    documents = ["a blue square", "a red circle", "nothing"]
    answer = server.post("/v1/rerank", {"query": "a red circle", "documents": documents}).json()
    assert answer["results"][0]["index"] == 1
    assert answer["method"] == "embedding_similarity"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": "the <|image_pad|>"}, "input"),
        ({"input": "word " * 5000}, "input"),
        ({"input": "a", "image_url": "data:image/png;base64,AAAA"}, "image_url"),
    ],
    ids=["token ids", "mark", "too long", "no picture"],
)
def test_what_cannot_be_embedded_with_a_picture_is_named(server: Server, body: dict[str, Any], param: str) -> None:
    refused = server.post("/v1/embeddings", {"image_url": address(RED), **body})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param
