"""A body for each POST that takes one: any server with a model of the right kind answers it.

Files of forms are left out, and ids stand for those of things that were made before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_server.app.http.errors import below
from mlx_server.app.views.capabilities import DRAWS, EMBEDS, HEARS_OR_SPEAKS, SCORES, WRITES

ANY = "any"
"""Stands for the name of a model that is served."""
QUESTION = "What is the capital of France?"
ASKED = [{"role": "user", "content": QUESTION}]
ON_THE_HUB = "mlx-community/Qwen3-0.6B-4bit"
A_MESSAGE = {"type": "message", "role": "user", "content": QUESTION}
A_TURN = {"model": ANY, "messages": ASKED, "max_tokens": 64}
TEXT = {"model": ANY, "prompt": QUESTION}
TOKENS = {"model": ANY, "tokens": [1, 2, 3]}
RANKED = {"model": ANY, "query": "a cat sleeps", "documents": ["A kitten naps.", "Rates rose."]}
SCORED = {"model": ANY, "text_1": "a cat sleeps", "text_2": ["A kitten naps.", "Rates rose."]}

EXAMPLES: dict[str, Any] = {
    "/v1/chat/completions": {"model": ANY, "messages": ASKED, "max_tokens": 64},
    "/v1/completions": {"model": ANY, "prompt": "The capital of France is", "max_tokens": 16},
    "/v1/responses": {"model": ANY, "input": QUESTION, "max_output_tokens": 64},
    "/v1/responses/compact": {"model": ANY, "input": [A_MESSAGE], "max_output_tokens": 64},
    "/v1/responses/input_tokens": {"model": ANY, "input": QUESTION},
    "/v1/conversations": {"items": [A_MESSAGE], "metadata": {"topic": "capitals"}},
    "/v1/conversations/{id}": {"metadata": {"topic": "rivers"}},
    "/v1/conversations/{id}/items": {"items": [{**A_MESSAGE, "content": "And of Spain?"}]},
    "/v1/messages": A_TURN,
    "/v1/messages/batches": {"requests": [{"custom_id": "1", "params": A_TURN}]},
    "/v1/messages/count_tokens": {"model": ANY, "messages": ASKED},
    "/v1/embeddings": {"model": ANY, "input": ["A cat sleeps.", "Rates rose."]},
    "/rerank": RANKED,
    "/v1/rerank": RANKED,
    "/v2/rerank": RANKED,
    "/score": SCORED,
    "/v1/score": SCORED,
    "/v1/audio/transcriptions": {"model": ANY},
    "/v1/audio/translations": {"model": ANY},
    "/v1/audio/speech": {"model": ANY, "input": "The rain in Spain stays mainly in the plain."},
    "/v1/images/generations": {"model": ANY, "prompt": "a red circle at the top left"},
    "/v1/images/edits": {"model": ANY, "prompt": "a red circle at the top left"},
    "/v1/files": {"purpose": "user_data"},
    "/v1/batches": {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    },
    "/v1/uploads": {"filename": "notes.txt", "purpose": "user_data", "bytes": 12, "mime_type": "text/plain"},
    "/v1/uploads/{id}/parts": {},
    "/v1/uploads/{id}/complete": {"part_ids": ["part_1"]},
    "/tokenize": TEXT,
    "/v1/tokenize": TEXT,
    "/detokenize": TOKENS,
    "/v1/detokenize": TOKENS,
    "/v1/cache/explain": TEXT,
    "/v1/models/install": {"model_id": ON_THE_HUB},
    "/v1/models/{name}/generate": {"prompt": "The capital of France is", "max_tokens": 16},
    "/v1/manager/models/{name}/priority": {"priority": 5},
    "/api/hardware/performance-mode": {"mode": "balanced"},
    "/api/models/load": {"model_id": ANY},
    "/api/models/unload": {"model_id": ANY},
    "/api/models/benchmark/{model_id}": {"num_samples": 1, "max_tokens": 16},
    "/api/models/download": {"model_id": ON_THE_HUB},
}

ALL = (*WRITES, *SCORES, "hears", "speaks", *HEARS_OR_SPEAKS, *DRAWS)
ANSWERED_BY: Mapping[str, Sequence[str]] = {
    "/v1/embeddings": ("embeddings", *EMBEDS),
    "/v1/audio/speech": ("speaks", *HEARS_OR_SPEAKS),
    "/v1/audio": ("hears", *HEARS_OR_SPEAKS),
    "/v1/images": DRAWS,
    "/v1/models/{name}/generate": WRITES,
    "/api/models/benchmark": WRITES,
    **dict.fromkeys(("/v1/models", "/v1/manager", "/api/models"), ALL),
    **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score"), ("rerank", "embeddings", *SCORES)),
}
"""Kinds of models that answer at or below a path, the best one first; elsewhere those that write."""


def model_for(path: str, served: Mapping[str, str]) -> str | None:
    """The model, of those that are served by their kinds, that an example for a path names, or None: there is none."""
    kinds = next((kinds for root, kinds in ANSWERED_BY.items() if below(path, root)), WRITES)
    return next((served[kind] for kind in kinds if kind in served), None)


def naming(model: str, example: Any) -> Any:
    """An example that names this model instead of any."""
    match example:
        case dict():
            return {key: naming(model, value) for key, value in example.items()}
        case list():
            return [naming(model, value) for value in example]
        case _:
            return model if example == ANY else example
