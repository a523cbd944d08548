"""What each route takes and answers, for the OpenAPI document: one line for each route of `server.py`.

A method that differs from the others of its path has a line of its own: `"DELETE /v1/…"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_server.schemas import anthropic, anthropic_answer, cache, openai_embeddings, operations, scores, tokens
from mlx_server.schemas import openai_responses_answer as responses
from mlx_server.schemas.errors import AnthropicErrorBody, ErrorBody
from mlx_server.schemas.openai import Model, ModelList
from mlx_server.schemas.openai_chat import ChatChunk, ChatCompletion, ChatRequest
from mlx_server.schemas.openai_completions import Completion, CompletionRequest
from mlx_server.schemas.openai_responses import ResponsesRequest
from mlx_server.schemas.openai_responses_events import Event
from mlx_server.schemas.openai_responses_items import ItemList

READS = (500,)
LOOKS_UP = (404, 500)
ASKS = (400, 404, 500)
GENERATES = (400, 413, 429, 500, 502, 503, 504)
"""Statuses of errors by what a route does. A refused key's 401 goes without saying."""


@dataclass(frozen=True)
class Doc:
    """What a route takes and answers.

    `request` and `answer` are msgspec types of JSON, `event` that of what each server-sent event of a stream holds.
    An answer that is no JSON has a `media` type instead. `also` are answers with another status than 200. `errors`
    are the statuses whose answer is an `error`.
    """

    summary: str
    answer: Any = None
    request: Any = None
    event: Any = None
    errors: tuple[int, ...] = READS
    marks: tuple[str, ...] = ()
    """Data of events that is no JSON."""
    error: Any = ErrorBody
    media: str = "application/json"
    also: Mapping[int, Any] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    """What the parameters in the path mean."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters in the query, and what they do."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that a request may have, and what they do."""


ID = {"id": "The model's id. It may contain slashes, as they are or escaped."}
RESPONSE = {"id": "The response's id."}
PAGE = {
    "limit": "At most so many items, 1 to 100 (20).",
    "order": "`desc`, the newest first, or `asc`.",
    "after": "The id of the item before the first one.",
}
FOLLOW = {
    "stream": "`true` gives the events of a response that is made in the background.",
    "starting_after": "The number of the last event that is known.",
}
DONE = ("[DONE]",)
METRICS = {"X-Performance-Metrics": "`true` adds `performance_metrics` to the answer."}

DOCS: dict[str, Doc] = {
    "/health": Doc("Whether the model is served or will be", operations.Health, also={503: operations.Health}),
    "/health/live": Doc("Whether the front end lives", operations.Live),
    "/health/ready": Doc("Whether a worker takes work", operations.Readiness, also={503: operations.Readiness}),
    "/metrics": Doc("Metrics for Prometheus", media="text/plain"),
    "/openapi.json": Doc("This document", dict[str, Any]),
    "/v1/models": Doc("What is served", ModelList),
    "/v1/models/{id}": Doc("One model", Model, errors=LOOKS_UP, path=ID),
    "/v1/queue/stats": Doc("The queue's state now", operations.QueueReport),
    "/v1/chat/completions": Doc("Chat", ChatCompletion, ChatRequest, ChatChunk, GENERATES, DONE, headers=METRICS),
    "/v1/completions": Doc(
        "Text completion", Completion, CompletionRequest, Completion, GENERATES, DONE, headers=METRICS
    ),
    "/v1/embeddings": Doc(
        "Vectors of texts", openai_embeddings.EmbeddingsAnswer, openai_embeddings.EmbeddingsRequest, errors=GENERATES
    ),
    "/v1/responses": Doc("A response", responses.Response, ResponsesRequest, Event, (*GENERATES, 404)),
    "/v1/responses/{id}": Doc(
        "A kept response", responses.Response, event=Event, errors=ASKS, path=RESPONSE, query=FOLLOW
    ),
    "DELETE /v1/responses/{id}": Doc("Forget a response", responses.Deleted, errors=LOOKS_UP, path=RESPONSE),
    "/v1/responses/{id}/cancel": Doc("End a background response", responses.Response, errors=ASKS, path=RESPONSE),
    "/v1/responses/{id}/input_items": Doc(
        "What a response was made of", ItemList, errors=ASKS, path=RESPONSE, query=PAGE
    ),
    "/v1/messages": Doc(
        "Anthropic's messages",
        anthropic_answer.AssistantMessage,
        anthropic.MessagesRequest,
        anthropic_answer.StreamEvent,
        GENERATES,
        error=AnthropicErrorBody,
    ),
    "/v1/messages/count_tokens": Doc(
        "Tokens of a prompt of messages",
        anthropic.TokenCount,
        anthropic.PromptFields,
        errors=GENERATES,
        error=AnthropicErrorBody,
    ),
}
DOCS["/v1/cache/explain"] = Doc(
    "What is kept of a prompt, and where it differs", cache.Explanation, cache.ExplainRequest, errors=GENERATES
)
for _path in ("/tokenize", "/v1/tokenize"):
    DOCS[_path] = Doc("Tokens of a text", tokens.TokenizeAnswer, tokens.TokenizeRequest, errors=GENERATES)
for _path in ("/detokenize", "/v1/detokenize"):
    DOCS[_path] = Doc("Text of tokens", tokens.DetokenizeAnswer, tokens.DetokenizeRequest, errors=GENERATES)
for _path in ("/rerank", "/v1/rerank", "/v2/rerank"):
    DOCS[_path] = Doc("Documents by relevance", scores.RerankAnswer, scores.RerankRequest, errors=GENERATES)
for _path in ("/score", "/v1/score"):
    DOCS[_path] = Doc("Relevance of pairs of texts", scores.ScoresAnswer, scores.ScoresRequest, errors=GENERATES)
