"""The examples of embeddings and retrieval find what a person would, on the embedding model that the demo fetches."""

import pytest
from support.examples import run_notebook, run_script
from support.running.servers import Server


@pytest.mark.model
def test_semantic_search_finds_by_meaning(minilm_server: Server) -> None:
    said = run_script("semantic_search.py", minilm_server)
    for found in (
        "How do I bake a loaf? -> Sourdough bread",
        "Which creature runs quickest? -> The cheetah",
        "My wheel has a puncture, what now? -> To change a flat tyre",
        "How can I stay safe online? -> A password manager",
        "Reranked by embedding_similarity\n  0.51 Sourdough bread",
        "Cut: 64 dimensions of 256 tokens",
    ):
        assert found in said, said


@pytest.mark.model
def test_notebook_of_embeddings_tells_meanings_apart(minilm_server: Server) -> None:
    shown = run_notebook("lm_embeddings_examples.ipynb", EMBEDDINGS=minilm_server)
    for found in (
        "Dimensions: 384",
        "+0.753  A cat sleeps on the sofa. | A kitten is napping on the couch.",
        "Python lists can be sorted",
        "king    is closest to queen",
        "truck   is closest to car ",
        "Dimensions: 64 of length 1.0",
    ):
        assert found in shown, shown


@pytest.mark.model
def test_notebook_of_retrieval_answers_from_the_pdf(minilm_server: Server, smollm2_server: Server) -> None:
    shown = run_notebook("rag_examples.ipynb", EMBEDDINGS=minilm_server, BASE=smollm2_server)
    for found in (
        "A: The Brennick lighthouse was built in 1874",
        "A: The tower is 41 ",
        "A: The crossing takes 35 minutes",
        "Tomas Wren, left the island in 1988",
        "Scored by: embedding_similarity",
        "Dogs are not allowed",
    ):
        assert found in shown, shown


@pytest.mark.model
def test_language_model_runs_the_notebook_too(smollm2_server: Server) -> None:
    shown = run_notebook("lm_embeddings_examples.ipynb", EMBEDDINGS=smollm2_server)
    assert "Dimensions: 576" in shown
