"""One rule for the context, by what configurations say."""

from typing import Any

import pytest

from mlx_server.workers.context_length import context_length, shortest


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"max_sequence_length": 100}, 100),
        ({"n_positions": 1024}, 1024),
        ({"max_seq_len": 2048}, 2048),
        ({"n_ctx": 2048, "n_positions": 1024}, 1024),
        ({"model_max_length": 131072, "max_position_embeddings": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 8192, "text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 8192, "text_config": {"hidden_size": 64}}, 8192),
        ({"language_config": {"max_position_embeddings": 2048}}, 2048),
        ({"max_position_embeddings": None, "n_positions": 7}, 7),
        ({"max_position_embeddings": "many"}, None),
        ({"max_position_embeddings": True}, None),
        ({"text_config": None}, None),
        ({}, None),
    ],
)
def test_context_length_is_the_language_models(config: dict[str, Any], expected: int | None) -> None:
    assert context_length(config) == expected


def test_shortest_length_counts() -> None:
    assert (shortest(5, None, 3), shortest(None), shortest()) == (3, None, None)
