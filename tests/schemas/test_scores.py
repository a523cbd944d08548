"""From the bodies of requests for scores to the pairs that are queued."""

from typing import Any

import pytest

from mlx_server.schemas.internal.embedding import Pair, Truncation
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.scores import MAX_CHARACTERS, Document, RerankRequest, ScoresRequest


def test_query_meets_every_document() -> None:
    work = RerankRequest(query="q", documents=["a", Document("b")], instruction="find it").to_work()
    assert work.pairs == (Pair("q", "a", "query", "documents[0]"), Pair("q", "b", "query", "documents[1].text"))
    assert (work.instruction, work.truncation, work.rows) == ("find it", None, 1)


@pytest.mark.parametrize(
    ("fields", "truncation"),
    [
        ({"max_tokens_per_doc": 7}, Truncation(7, param="max_tokens_per_doc")),
        ({"max_tokens_per_doc": 7, "truncation_side": "left"}, Truncation(7, "end", "max_tokens_per_doc")),
        ({"truncate_prompt_tokens": -1}, Truncation(None)),
    ],
)
def test_both_names_of_a_limit_cut(fields: dict[str, Any], truncation: Truncation) -> None:
    assert RerankRequest(query="q", documents=["a"], **fields).to_work().truncation == truncation


def test_one_text_meets_each_of_the_others() -> None:
    work = ScoresRequest(text_1="q", text_2=["a", "b"]).to_work()
    assert work.pairs == (Pair("q", "a", "text_1", "text_2[0]"), Pair("q", "b", "text_1", "text_2[1]"))


def test_lists_of_one_length_meet_in_pairs() -> None:
    work = ScoresRequest(queries=["p", "q"], items=["a", "b"]).to_work()
    assert work.pairs == (Pair("p", "a", "queries[0]", "items[0]"), Pair("q", "b", "queries[1]", "items[1]"))


def test_query_counts_with_each_document() -> None:
    query = "q" * (MAX_CHARACTERS // 4 - 1)
    RerankRequest(query=query, documents=["a"] * 4).to_work()
    with pytest.raises(InvalidRequest, match="the query counts with each document"):
        RerankRequest(query=query, documents=["a"] * 5).to_work()
