"""A real embedding model over HTTP: limits, both formats, many requests at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.running.clients import sdk
from support.running.servers import Server
from support.tiny.vectors import EMBEDDINGS, RERANK, SCORE, floats_of, vectors_of

pytestmark = pytest.mark.model

DIMENSIONS = 384
LIMIT = 256
LONG = "word " * 300


def refusal(server: Server, path: str, **body: Any) -> dict[str, Any]:
    response = server.post(path, body)
    assert response.status_code == 400, response.text
    return dict(response.json()["error"])


def test_both_formats_are_the_same_vectors(minilm_server: Server) -> None:
    texts = ["a cat", "a dog", "interest rates"]
    numbers = minilm_server.post(EMBEDDINGS, {"input": texts, "encoding_format": "float"}).json()
    packed = minilm_server.post(EMBEDDINGS, {"input": texts, "encoding_format": "base64"}).json()
    assert [floats_of(one) for one in vectors_of(packed)] == vectors_of(numbers)
    assert {len(one) for one in vectors_of(numbers)} == {DIMENSIONS}
    assert packed["usage"]["prompt_tokens"] == 12


def test_many_clients_get_what_one_would(minilm_server: Server) -> None:
    batches = [[f"text {i} of client {client}" for i in range(20)] for client in range(8)]
    with sdk(minilm_server) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda texts: client.embeddings.create(model="any", input=texts), batches))
        for texts, answer in zip(batches, answers, strict=True):
            alone = client.embeddings.create(model="any", input=texts[7])
            assert answer.data[7].embedding == pytest.approx(alone.data[0].embedding, abs=1e-5)


def test_input_that_is_too_long_is_named(minilm_server: Server) -> None:
    error = refusal(minilm_server, EMBEDDINGS, input=["short", LONG])
    assert (error["param"], error["code"]) == ("input[1]", "context_length_exceeded")
    cut = minilm_server.post(EMBEDDINGS, {"input": LONG, "truncate_prompt_tokens": -1}).json()
    assert cut["usage"]["prompt_tokens"] == LIMIT


def test_limit_above_the_models_is_refused_under_its_own_name(minilm_server: Server) -> None:
    assert refusal(minilm_server, EMBEDDINGS, input="a", truncate_prompt_tokens=LIMIT + 1)["param"] == (
        "truncate_prompt_tokens"
    )


def test_documents_limit_above_the_models_means_the_models(minilm_server: Server) -> None:
    asked = {"query": "q", "documents": ["a " * 2 * LIMIT], "max_tokens_per_doc": 16 * LIMIT}
    answered = minilm_server.post(RERANK, asked)
    assert answered.status_code == 200, answered.text
    assert answered.json()["usage"]["prompt_tokens"] == 3 + LIMIT


def test_dimensions_beyond_the_models_are_refused(minilm_server: Server) -> None:
    assert refusal(minilm_server, EMBEDDINGS, input="a", dimensions=DIMENSIONS + 1)["param"] == "dimensions"


def test_documents_come_by_meaning(minilm_server: Server) -> None:
    documents = ["Interest rates rose again.", "A kitten naps on the couch.", {"text": "The dog barks."}]
    body = {"query": "a cat sleeps on the sofa", "documents": documents, "return_documents": True}
    answer = minilm_server.post(RERANK, body).json()
    assert answer["method"] == "embedding_similarity"
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    sides = {"text_1": body["query"], "text_2": documents[:2]}
    scores = [one["score"] for one in minilm_server.post(SCORE, sides).json()["data"]]
    by_index = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert scores == pytest.approx([by_index[0], by_index[1]], abs=1e-5)


def test_model_writes_no_text(minilm_server: Server) -> None:
    response = minilm_server.chat("hi")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "This model (embeddings) writes no text. It answers POST /v1/embeddings, /v1/rerank or /v1/score."
    )
    [model] = minilm_server.get("/v1/models").json()["data"]
    assert (model["default_max_tokens"], model["context_length"]) == (None, LIMIT)
    assert model["modalities"] == {"input": ["text"], "output": ["embedding"]}
    assert (model["features"]["embeddings"], model["features"]["rerank"]) == (True, True)
    assert model["features"]["dimensions"] == DIMENSIONS
    assert {"dimensions", "encoding_format", "top_n", "prompt"} <= set(model["supported_parameters"])
    assert not {"temperature", "input", "documents"} & set(model["supported_parameters"])
