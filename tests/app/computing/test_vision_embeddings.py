"""Embeddings of texts and pictures by a model that also writes: over HTTP, with OpenAI's own client."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import openai
import pytest
from mlx_vlm.utils import load_model
from shapes.draw import Scene, draw_scene
from support.running.clients import sdk
from support.running.metrics import value
from support.running.servers import Server, serving
from support.tiny.sight import SHAPES, png

from mlx_server.workers.engine.runtime.platform import configure, suit_weights

pytestmark = pytest.mark.model

TEXT = "Describe the picture."
Vectors = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--model-path", SHAPES, "--model-type", "vlm", "--max-concurrency", 4) as server:
        yield server


def address(scene: Scene) -> str:
    return "data:image/png;base64," + base64.b64encode(png(scene.image())).decode()


def embed(client: openai.OpenAI, texts: Any, pictures: Any = None, **more: Any) -> tuple[Vectors, int]:
    extra = {"image_url": pictures} if pictures else None
    answer = client.embeddings.create(model="m", input=texts, extra_body=extra, **more)
    return np.array([one.embedding for one in answer.data]), answer.usage.prompt_tokens


def scenes(count: int) -> list[Scene]:
    rnd = random.Random(5)
    return [draw_scene(rnd) for _ in range(count)]


def test_pictures_are_embedded_alike_together_and_alone(server: Server) -> None:
    shown = [address(scene) for scene in scenes(3)]
    with sdk(server) as client:
        together, tokens = embed(client, [TEXT] * 3, shown)
        alone = [embed(client, TEXT, picture) for picture in shown]
    assert np.allclose(together, np.concatenate([vectors for vectors, _ in alone]), atol=1e-5)
    assert tokens == sum(count for _, count in alone)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert (together @ together.T)[np.triu_indices(3, 1)].max() < 0.9999


def test_picture_beside_texts_changes_nothing_for_them(server: Server) -> None:
    texts = ["a red circle", "a blue square, quite large and far away on the left"]
    with sdk(server) as client:
        together, _ = embed(client, texts)
        alone = [embed(client, text)[0][0] for text in texts]
        embed(client, texts, address(scenes(1)[0]))
        again, _ = embed(client, texts)
    assert np.allclose(together, alone, atol=1e-5)
    assert np.array_equal(together, again)


def test_text_is_the_mean_of_the_last_hidden_states(server: Server) -> None:
    configure()
    model, _ = suit_weights(load_model(SHAPES, lazy=True, trust_remote_code=False), "auto")
    ids = server.post("/tokenize", {"prompt": "a red circle"}).json()["tokens"]
    states = model.language_model.model(mx.array([ids]), position_ids=mx.tile(mx.arange(len(ids)), (3, 1, 1)))[0]
    mean = np.array(states.mean(axis=0))
    with sdk(server) as client:
        [vector], tokens = embed(client, "a red circle")
    assert tokens == len(ids)
    assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)


def test_known_picture_is_not_encoded_again(server: Server) -> None:
    shown = address(draw_scene(random.Random(77)))
    question = [{"type": "image_url", "image_url": {"url": shown}}, {"type": "text", "text": "What shape is it?"}]
    with sdk(server) as client:
        embed(client, TEXT, shown)
        before = value(server, "media_encoded_total")
        client.chat.completions.create(
            model="m", temperature=0, max_tokens=4, messages=[{"role": "user", "content": question}]
        )
    assert value(server, "media_encoded_total") == before


def test_embedded_pictures_are_counted(server: Server) -> None:
    rnd = random.Random(99)
    new = [address(draw_scene(rnd)) for _ in range(2)]
    encoded, cached = value(server, "media_encoded_total"), value(server, "media_cached_total")
    with sdk(server) as client:
        embed(client, [TEXT] * 2, new)
        assert (value(server, "media_encoded_total"), value(server, "media_cached_total")) == (encoded + 2, cached)
        embed(client, TEXT, new[0])
    assert (value(server, "media_encoded_total"), value(server, "media_cached_total")) == (encoded + 2, cached + 1)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": TEXT, "dimensions": 129}, "dimensions"),
        ({"input": "word " * 5000}, "input"),
        ({"input": TEXT, "truncate_prompt_tokens": 3}, "input"),
    ],
    ids=["token ids", "dimensions", "too long", "no room"],
)
def test_what_cannot_stand_beside_a_picture_is_named(server: Server, body: dict[str, Any], param: str) -> None:
    refused = server.post("/v1/embeddings", {**body, "image_url": address(scenes(1)[0])})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param
