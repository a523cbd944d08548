"""`/v1/embeddings`: OpenAI's shapes, every kind of input, and a place in the queue like any other request."""

import base64
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.running.clients import sdk
from support.running.metrics import value
from support.running.processes import kill_worker
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server
from support.tiny.vectors import EMBEDDINGS, floats_of, vectors_of

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.server.server import create_app

DIMENSIONS = 8
SLOW = json.dumps({"first_token_s": 60})
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG a picture").decode()
OTHER = "data:image/png;base64," + base64.b64encode(b"\x89PNG another").decode()


def embed(server: Server, given: Any, **more: Any) -> dict[str, Any]:
    response = server.post(EMBEDDINGS, {"input": given, **more})
    assert response.status_code == 200, response.text
    return dict(response.json())


def vector(server: Server, given: Any, **more: Any) -> list[float]:
    [only] = vectors_of(embed(server, given, **more))
    return only


def test_answer_has_openais_shape(scripted_server: Server) -> None:
    answer = embed(scripted_server, ["one two", "three"], model="some/name", user="me")
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", "some/name")
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [one.keys() for one in answer["data"]] == [{"object", "embedding", "index"}] * 2
    assert {one["object"] for one in answer["data"]} == {"embedding"}
    assert "model" in embed(scripted_server, "hi")


def test_vectors_come_in_the_order_of_the_inputs(scripted_server: Server) -> None:
    texts = [f"text {i}" for i in range(100)]
    vectors = vectors_of(embed(scripted_server, texts))
    assert len({tuple(one) for one in vectors}) == len(texts)
    assert vectors[::33] == [vector(scripted_server, text) for text in texts[::33]]
    assert all(math.isclose(math.hypot(*one), 1, rel_tol=1e-6) for one in vectors)


def test_base64_holds_the_same_floats(scripted_server: Server) -> None:
    numbers = embed(scripted_server, ["a", "b"])
    packed = embed(scripted_server, ["a", "b"], encoding_format="base64")
    assert [floats_of(one) for one in vectors_of(packed)] == vectors_of(numbers)
    assert packed["usage"] == numbers["usage"]


@pytest.mark.parametrize("how", [{}, {"encoding_format": "float"}, {"dimensions": 3}])
def test_openais_sdk_gets_the_same_vectors(scripted_server: Server, how: dict[str, Any]) -> None:
    with sdk(scripted_server) as client:  # it asks for base64 unless told otherwise
        answer = client.embeddings.create(model="any", input=["a", "b"], **how)
    plain = embed(scripted_server, ["a", "b"], **{**how, "encoding_format": "float"})
    assert [list(one.embedding) for one in answer.data] == vectors_of(plain)
    assert (answer.object, answer.model, answer.usage.total_tokens) == ("list", "any", 2)


def test_large_answer_comes_in_pieces_and_complete(scripted_server: Server) -> None:
    texts = [f"text {i}" for i in range(2048)]
    response = scripted_server.post(EMBEDDINGS, {"input": texts})
    assert response.headers["transfer-encoding"] == "chunked"
    vectors = vectors_of(response.json())
    assert len(vectors) == len(texts)
    assert vectors[2047] == vector(scripted_server, texts[2047])
    assert "content-length" in scripted_server.post(EMBEDDINGS, {"input": "one"}).headers


def test_dimensions_cut_and_normalise(scripted_server: Server) -> None:
    whole, cut = vector(scripted_server, "a"), vector(scripted_server, "a", dimensions=3)
    length = math.hypot(*whole[:3])
    assert cut == pytest.approx([number / length for number in whole[:3]], rel=1e-6)
    error = scripted_server.post(EMBEDDINGS, {"input": "a", "dimensions": 9}).json()["error"]
    assert error["param"] == "dimensions"


def test_token_ids_are_inputs_too(scripted_server: Server) -> None:
    one, other = vectors_of(embed(scripted_server, [[1, 2, 3], [4]]))
    assert vector(scripted_server, [1, 2, 3]) == one
    assert embed(scripted_server, [1, 2, 3])["usage"]["prompt_tokens"] == 3
    assert vector(scripted_server, [[4]]) == other != one


def test_empty_text_goes_to_the_model(scripted_server: Server) -> None:
    assert len(vector(scripted_server, "")) == len(vector(scripted_server, [""])) == DIMENSIONS


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({"truncate_prompt_tokens": 2}, "a b"),
        ({"truncate_prompt_tokens": 2, "truncation_side": "right"}, "a b"),
        ({"truncate_prompt_tokens": 2, "truncation_side": "left"}, "c d"),
        ({"truncate_prompt_tokens": -1}, "a b c d"),
        ({"truncate_prompt_tokens": 9}, "a b c d"),
    ],
)
def test_long_input_is_cut_where_that_is_asked_for(scripted_server: Server, how: dict[str, Any], kept: str) -> None:
    answer = embed(scripted_server, "a b c d", **how)
    assert vectors_of(answer) == [vector(scripted_server, kept)]
    assert answer["usage"]["prompt_tokens"] == len(kept.split())


@pytest.mark.parametrize("field", ["prompt", "prompt_name", "input_type"])
def test_what_an_input_is_changes_its_vector(scripted_server: Server, field: str) -> None:
    assert vector(scripted_server, "a", **{field: "query"}) != vector(scripted_server, "a")


def test_pictures_are_embedded_with_their_texts(scripted_server: Server) -> None:
    texts = ["a", "b"]
    plain = vectors_of(embed(scripted_server, texts))
    shared = vectors_of(embed(scripted_server, texts, image_url=PIXEL))
    own = vectors_of(embed(scripted_server, texts, image_url=[{"url": PIXEL}, OTHER]))
    assert shared == vectors_of(embed(scripted_server, texts, image_url={"url": PIXEL, "detail": "low"}))
    assert own[0] == shared[0]
    assert own[1] != shared[1]
    assert not {tuple(one) for one in plain} & {tuple(one) for one in shared}


def test_picture_counts_as_often_as_it_is_shown(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-body-bytes", 10_000)
    picture = "data:image/png;base64," + base64.b64encode(bytes(1000)).decode()
    assert len(vectors_of(embed(server, ["a"] * 10, image_url=picture))) == 10
    error = server.post(EMBEDDINGS, {"input": ["a"] * 11, "image_url": picture}).json()["error"]
    assert error["param"] == "image_url"
    assert "larger than 10000 bytes in all" in error["message"]


def test_unknown_fields_are_told_in_a_header(scripted_server: Server) -> None:
    response = scripted_server.post(EMBEDDINGS, {"input": "a", "wizardry": 1})
    assert response.headers["x-ignored-fields"] == "wizardry"


def test_model_that_makes_no_embeddings_says_so_without_being_asked() -> None:
    client = TestClient(create_app(Settings(models=(ModelSettings("any/model", "rerank"),), response_store="off")))
    error = client.post(EMBEDDINGS, json={"input": "a"}).json()["error"]
    assert error["param"] == "model"
    assert error["message"] == "This model (rerank) makes no embeddings. It answers POST /v1/rerank or /v1/score."


def test_refusal_by_the_worker_names_the_input(scripted_server: Server) -> None:
    response = scripted_server.post(EMBEDDINGS, {"input": ["a", '{"invalid": true}']})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input[1]"


def test_input_that_breaks_ends_the_whole_request(scripted_server: Server) -> None:
    response = scripted_server.post(EMBEDDINGS, {"input": ["a", '{"raise_at": 1}', "b"]})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_error")
    assert embed(scripted_server, "a")


def test_full_queue_refuses(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    with RawClient(server, {"input": SLOW}, EMBEDDINGS):
        server.wait_stats(running_requests=1)
        response = server.post(EMBEDDINGS, {"input": "a"})
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    server.wait_stats(active_requests=0)


def test_client_that_leaves_gives_its_place_back(scripted_server: Server) -> None:
    cancelled = scripted_server.stats()["cancelled"]
    with RawClient(scripted_server, {"input": ["a", SLOW]}, EMBEDDINGS):
        scripted_server.wait_stats(running_requests=1)
    scripted_server.wait_stats(active_requests=0, rows_used=0, cancelled=cancelled + 1)


def test_request_that_takes_too_long_times_out(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED, "--queue-timeout", 0.5)
    response = server.post(EMBEDDINGS, {"input": SLOW})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    assert server.stats()["rows_used"] == 0


def test_request_is_computed_anew_when_its_worker_dies(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    texts = [json.dumps({"interval_s": 0.1, "text": str(i)}) for i in range(10)]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(embed, server, texts)
        server.wait_until(lambda: value(server, "embeddings_total") > 2)
        kill_worker(server)
        answer = asked.result()
    assert vectors_of(answer) == vectors_of(embed(server, texts))
    assert server.stats()["replayed"] == 1


def test_poisonous_input_ends_with_its_second_worker(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    response = server.post(EMBEDDINGS, {"input": ["a", '{"die_at": 1}']})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "worker_lost")
    assert embed(server, "a")


def test_slow_reader_of_a_large_answer_does_not_keep_others_waiting(scripted_server: Server) -> None:
    body = {"input": [f"text {i}" for i in range(2048)]}
    with RawClient(scripted_server, body, EMBEDDINGS, receive_buffer=4096):
        scripted_server.wait_until(lambda: value(scripted_server, "embeddings_total") >= 2048)
        scripted_server.wait_stats(active_requests=0)
        assert embed(scripted_server, "a")
