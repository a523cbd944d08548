"""Semantic search: documents are embedded once, questions find them by meaning; then `/v1/rerank` does it in one call.

pip install openai; mlx-server launch --model-type embeddings --model-path "$(mlx-server demo --model minilm)";
python examples/semantic_search.py
"""

from __future__ import annotations

import argparse
from typing import Any

from openai import OpenAI

MODEL = "local-model"  # one model is served, so any name will do
DOCUMENTS = [
    "The cheetah is the fastest animal on land.",
    "Sourdough bread needs flour, water, salt and a lot of patience.",
    "To change a flat tyre, loosen the nuts before you lift the car.",
    "The Moon moves away from the Earth by 3.8 centimetres a year.",
    "A password manager keeps a different password for every site.",
    "Tomatoes want six hours of sun a day and water at their roots.",
]
QUESTIONS = [
    "How do I bake a loaf?",
    "Which creature runs quickest?",
    "My wheel has a puncture, what now?",
    "How can I stay safe online?",
]


def embed(client: OpenAI, texts: list[str]) -> list[list[float]]:
    """A vector of length 1 for each text, all in one request."""
    return [one.embedding for one in client.embeddings.create(model=MODEL, input=texts).data]


def search(client: OpenAI) -> None:
    """The cosine of two vectors of length 1 is their product: the larger, the more alike the texts are."""
    store = embed(client, DOCUMENTS)
    for question, asked in zip(QUESTIONS, embed(client, QUESTIONS), strict=True):
        scores = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in store]
        best = max(range(len(DOCUMENTS)), key=scores.__getitem__)
        print(f"{question} -> {DOCUMENTS[best]} ({scores[best]:.2f})")


def rerank(client: OpenAI) -> None:
    """OpenAI's SDK does not know this endpoint, which has Cohere's and Jina's shape, but it can be asked for it."""
    body = {"query": QUESTIONS[0], "documents": DOCUMENTS, "top_n": 2, "return_documents": True}
    answer: Any = client.post("/rerank", body=body, cast_to=object)
    print("Reranked by", answer["method"])
    for result in answer["results"]:
        print(f"  {result['relevance_score']:.2f} {result['document']['text']}")


def small(client: OpenAI) -> None:
    """`dimensions` cuts vectors off, `truncate_prompt_tokens` texts: a longer one would be refused."""
    vector = client.embeddings.create(
        model=MODEL, input="word " * 2000, dimensions=64, extra_body={"truncate_prompt_tokens": -1}
    )
    print("Cut:", len(vector.data[0].embedding), "dimensions of", vector.usage.prompt_tokens, "tokens")


def main() -> None:
    """Search, rerank, cut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    client = OpenAI(base_url=parser.parse_args().base_url, api_key="not-needed")
    for stop in (search, rerank, small):
        stop(client)


if __name__ == "__main__":
    main()
