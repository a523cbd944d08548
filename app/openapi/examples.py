"""A body for each POST that takes one: any server with a model of the right kind answers it.

Files of forms are left out, and ids stand for those of things that were made before.
"""

from __future__ import annotations

from typing import Any

QUESTION = "What is the capital of France?"
ASKED = [{"role": "user", "content": QUESTION}]
ON_THE_HUB = "mlx-community/Qwen3-0.6B-4bit"
A_MESSAGE = {"type": "message", "role": "user", "content": QUESTION}
A_TURN = {"model": "any", "messages": ASKED, "max_tokens": 64}
TEXT = {"prompt": QUESTION}
TOKENS = {"tokens": [1, 2, 3]}
RANKED = {"query": "a cat sleeps", "documents": ["A kitten naps.", "Rates rose."]}
SCORED = {"text_1": "a cat sleeps", "text_2": ["A kitten naps.", "Rates rose."]}

EXAMPLES: dict[str, Any] = {
    "/v1/chat/completions": {"messages": ASKED, "max_tokens": 64},
    "/v1/completions": {"prompt": "The capital of France is", "max_tokens": 16},
    "/v1/responses": {"input": QUESTION, "max_output_tokens": 64},
    "/v1/responses/compact": {"model": None, "input": [A_MESSAGE], "max_output_tokens": 64},
    "/v1/responses/input_tokens": {"input": QUESTION},
    "/v1/conversations": {"items": [A_MESSAGE], "metadata": {"topic": "capitals"}},
    "/v1/conversations/{id}": {"metadata": {"topic": "rivers"}},
    "/v1/conversations/{id}/items": {"items": [{**A_MESSAGE, "content": "And of Spain?"}]},
    "/v1/messages": A_TURN,
    "/v1/messages/batches": {"requests": [{"custom_id": "1", "params": A_TURN}]},
    "/v1/messages/count_tokens": {"model": "any", "messages": ASKED},
    "/v1/embeddings": {"input": ["A cat sleeps.", "Rates rose."]},
    "/rerank": RANKED,
    "/v1/rerank": RANKED,
    "/v2/rerank": RANKED,
    "/score": SCORED,
    "/v1/score": SCORED,
    "/v1/audio/transcriptions": {"model": "whisper-1"},
    "/v1/audio/translations": {"model": "whisper-1"},
    "/v1/audio/speech": {"model": "tts-1", "input": "The rain in Spain stays mainly in the plain."},
    "/v1/images/generations": {"model": "gpt-image-1", "prompt": "a red circle at the top left"},
    "/v1/images/edits": {"model": "gpt-image-1", "prompt": "a red circle at the top left"},
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
    "/api/models/load": {"model_id": ON_THE_HUB},
    "/api/models/unload": {"model_id": ON_THE_HUB},
    "/api/models/benchmark/{model_id}": {"num_samples": 1, "max_tokens": 16},
    "/api/models/download": {"model_id": ON_THE_HUB},
}
