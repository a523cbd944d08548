"""`/v1/rerank` and `/v1/score`: the shapes of Cohere, Jina and vLLM. The scripted score counts shared words."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.running.metrics import value
from support.running.processes import kill_worker
from support.running.raw import RawClient
from support.running.servers import SCRIPTED, Server
from support.tiny.vectors import RERANK, SCORE

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.server.server import create_app

QUERY = "red green blue"
DOCUMENTS = ["yellow", "green red", "red green blue", "red", "blue"]
SLOW = json.dumps({"first_token_s": 60})


def rerank(server: Server, documents: list[Any] = DOCUMENTS, path: str = RERANK, **more: Any) -> dict[str, Any]:
    response = server.post(path, {"query": QUERY, "documents": documents, **more})
    assert response.status_code == 200, response.text
    return dict(response.json())


def score(server: Server, path: str = SCORE, **sides: Any) -> dict[str, Any]:
    response = server.post(path, sides)
    assert response.status_code == 200, response.text
    return dict(response.json())


def order(answer: dict[str, Any]) -> list[int]:
    return [result["index"] for result in answer["results"]]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_come_by_relevance_and_equals_in_their_order(scripted_server: Server, path: str) -> None:
    answer = rerank(scripted_server, path=path, model="some/name")
    assert answer.keys() == {"id", "model", "method", "results", "usage", "meta"}
    assert answer["id"].startswith("rerank-")
    assert (answer["model"], answer["method"]) == ("some/name", "embedding_similarity")
    assert order(answer) == [2, 1, 3, 4, 0]
    assert [result["relevance_score"] for result in answer["results"]] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3, 0])
    assert {result.keys() == {"index", "relevance_score"} for result in answer["results"]} == {True}
    assert answer["usage"] == {"prompt_tokens": 23, "total_tokens": 23}
    assert answer["meta"] == {"tokens": {"input_tokens": 23, "output_tokens": 0}}


def test_best_documents_come_back_with_their_texts(scripted_server: Server) -> None:
    documents = ["yellow", {"text": "red"}, {"text": "red green"}]
    answer = rerank(scripted_server, documents, top_n=2, return_documents=True)
    assert [result["document"] for result in answer["results"]] == [{"text": "red green"}, {"text": "red"}]
    assert order(rerank(scripted_server, documents, top_n=0)) == order(rerank(scripted_server, documents, top_n=99))


def test_fields_of_documents_that_nobody_knows_are_told(scripted_server: Server) -> None:
    body = {"query": "q", "documents": [{"text": "a", "title": "b"}]}
    assert scripted_server.post(RERANK, body).headers["x-ignored-fields"] == "documents[0].title"


@pytest.mark.parametrize("field", ["max_tokens_per_doc", "truncate_prompt_tokens"])
def test_long_documents_are_cut_where_that_is_asked_for(scripted_server: Server, field: str) -> None:
    documents = ["yellow red green blue", "red"]
    assert order(rerank(scripted_server, documents)) == [0, 1]
    assert order(rerank(scripted_server, documents, **{field: 1})) == [1, 0]
    assert order(rerank(scripted_server, documents, **{field: 2}, truncation_side="left")) == [0, 1]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize(
    "sides", [("text_1", "text_2"), ("queries", "items"), ("queries", "documents"), ("data_1", "data_2")]
)
def test_scores_come_in_the_order_of_the_pairs(scripted_server: Server, path: str, sides: tuple[str, str]) -> None:
    answer = score(scripted_server, path, **dict(zip(sides, (QUERY, DOCUMENTS), strict=True)))
    assert answer.keys() == {"id", "object", "created", "model", "method", "data", "usage"}
    assert answer["object"] == "list"
    assert [(one["index"], one["object"]) for one in answer["data"]] == [(i, "score") for i in range(5)]
    assert [one["score"] for one in answer["data"]] == pytest.approx([0, 2 / 3, 1, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("one", "other", "scores"),
    [
        ("a", "a", [1]),
        (["a"], "b", [0]),
        (["a"], ["a", "b"], [1, 0]),
        (["a", "b"], ["a", "a b"], [1, 1]),
    ],
)
def test_one_text_meets_all_and_many_meet_in_pairs(
    scripted_server: Server, one: Any, other: Any, scores: list[float]
) -> None:
    answer = score(scripted_server, text_1=one, text_2=other)
    assert [given["score"] for given in answer["data"]] == scores


@pytest.mark.parametrize("path", [RERANK, SCORE])
def test_model_that_does_not_score_says_so(path: str) -> None:
    client = TestClient(create_app(Settings(models=(ModelSettings("any/model", "rerank"),), response_store="off")))
    refused = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert path in refused.json()["error"]["message"]


def test_refusal_by_the_worker_names_the_document(scripted_server: Server) -> None:
    invalid = '{"invalid": true}'
    for path, body, param in (
        (RERANK, {"query": "q", "documents": ["a", invalid]}, "documents[1]"),
        (RERANK, {"query": "q", "documents": ["a", {"text": invalid}]}, "documents[1].text"),
        (SCORE, {"text_1": "q", "text_2": invalid}, "text_2"),
        (SCORE, {"queries": "q", "items": ["a", invalid]}, "items[1]"),
    ):
        response = scripted_server.post(path, body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "body"),
    [(RERANK, {"query": "q", "documents": [SLOW]}), (SCORE, {"text_1": "q", "text_2": SLOW})],
)
def test_place_is_bounded_and_given_back(launch: Callable[..., Server], path: str, body: dict[str, Any]) -> None:
    server = launch(*SCRIPTED, "--max-concurrency", 1, "--queue-size", 0)
    with RawClient(server, body, path):
        server.wait_stats(running_requests=1)
        assert server.post(path, body).status_code == 429
    server.wait_stats(active_requests=0, rows_used=0, cancelled=1, refused=1)


def test_scores_are_computed_anew_when_the_worker_dies(launch: Callable[..., Server]) -> None:
    server = launch(*SCRIPTED)
    documents = [json.dumps({"interval_s": 0.1, "text": str(i)}) for i in range(10)]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rerank, server, documents)
        server.wait_until(lambda: value(server, "scores_total") > 2)
        kill_worker(server)
        assert order(asked.result()) == list(range(10))
    assert server.stats()["replayed"] == 1
