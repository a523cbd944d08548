"""What each route takes and answers, for the OpenAPI document: one line for each route of `server.py`.

A method that differs from the others of its path has a line of its own: `"DELETE /v1/…"`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlx_server.app.http.prompt_cache import HEADER as PROMPT_CACHE
from mlx_server.app.http.responder import DROPPED
from mlx_server.app.openapi.impetus_documentation import IMPETUS
from mlx_server.app.openapi.mlx_gui_documentation import MANAGING, NAME
from mlx_server.app.openapi.offline_documentation import OFFLINE
from mlx_server.app.openapi.route_doc import ASKS, GENERATES, LOOKS_UP, Doc
from mlx_server.app.routes.resumable import JOINED, KEY, LAST
from mlx_server.schemas import cache, live, operations, scores, tokens
from mlx_server.schemas.anthropic import answer as anthropic_answer
from mlx_server.schemas.anthropic import requests as anthropic
from mlx_server.schemas.internal.errors import AnthropicErrorBody
from mlx_server.schemas.mlx_gui import managed_models, system
from mlx_server.schemas.openai import conversations
from mlx_server.schemas.openai import embeddings as openai_embeddings
from mlx_server.schemas.openai import responses_answer as responses
from mlx_server.schemas.openai import responses_compact as compact
from mlx_server.schemas.openai.chat import ChatChunk, ChatCompletion, ChatRequest
from mlx_server.schemas.openai.completions import Completion, CompletionRequest
from mlx_server.schemas.openai.media import images, speech, transcriptions
from mlx_server.schemas.openai.responses import ResponsesRequest
from mlx_server.schemas.openai.responses_events import Event
from mlx_server.schemas.openai.responses_items import Item, ItemList

RESPONSE = {"id": "The response's id."}
CONVERSATION = {"id": "The conversation's id."}
CONVERSATION_ITEM = {**CONVERSATION, "item": "The item's id."}
KEEPS = (400, 404, 413, 500)
INCLUDE = {"include": "Changes nothing: all that is kept is told."}
PAGE = {
    "limit": "At most so many items, 1 to 100 (20).",
    "order": "`desc`, the newest first, or `asc`.",
    "after": "The id of the item before the first one.",
    **INCLUDE,
}
FOLLOW = {
    "stream": "`true` gives the events of a response that is made in the background.",
    "starting_after": "The number of the last event that is known.",
    "include_obfuscation": "`true` changes nothing, and is named in `X-Ignored-Fields`.",
    **INCLUDE,
}
DONE = ("[DONE]",)
RESUMES = {
    KEY: "A name that you give the request. The same request with the same name joins its answer, for a while.",
    LAST: "The id of the last event that you have of a stream with that name.",
}
METRICS = {"X-Performance-Metrics": "`true` adds `performance_metrics` to the answer."}

DOCS: dict[str, Doc] = {
    **IMPETUS,
    **OFFLINE,
    "/health": Doc("Whether the model is served or will be", operations.Health, also={503: operations.Health}),
    "/health/live": Doc("Whether the front end lives", operations.Live),
    "/health/ready": Doc("Whether a worker takes work", operations.Readiness, also={503: operations.Readiness}),
    "/metrics": Doc("Metrics for Prometheus", media="text/plain"),
    "/openapi.json": Doc("This document", dict[str, Any]),
    "/docs": Doc("This document, for people", media="text/html"),
    "/docs/assets/{name}": Doc("A file of that page", media="*/*", errors=LOOKS_UP, path={"name": "The file's name."}),
    "/": Doc("What answers here; browsers get the console", system.Root),
    "/v1/models": Doc("All models that may be named", managed_models.AllModels),
    "/v1/models/{name}": Doc("One model", managed_models.ModelDetails, errors=LOOKS_UP, path=NAME),
    **MANAGING,
    "/v1/queue/stats": Doc("The queue's state now", operations.QueueReport),
    "/v1/live": Doc(
        "What the server does now, as server-sent events about once a second",
        event=live.LiveState,
        errors=(400, 403, 500, 503),
        query={"with": "What is told beside it: `batches`, `downloads` or `logs`, or several, separated by commas."},
    ),
    "/v1/system/logs": Doc(
        "The last lines of the server's log",
        live.LogLines,
        errors=(400, 403, 500),
        query={"after": "The number of the last line that is known."},
    ),
    "/v1/requests/{id}/cancel": Doc(
        "End a request that waits or runs; its client gets a 409",
        live.CancelledRequests,
        errors=LOOKS_UP,
        path={"id": "The request's `X-Request-Id`. A key that is not the operator's may end its own."},
    ),
    "/v1/chat/completions": Doc(
        "Chat",
        ChatCompletion,
        ChatRequest,
        ChatChunk,
        GENERATES,
        DONE,
        headers=METRICS,
        tells=(PROMPT_CACHE,),
    ),
    "/v1/completions": Doc(
        "Text completion",
        Completion,
        CompletionRequest,
        Completion,
        GENERATES,
        DONE,
        headers=METRICS,
        tells=(PROMPT_CACHE,),
    ),
    "/v1/embeddings": Doc(
        "Vectors of texts",
        openai_embeddings.EmbeddingsAnswer,
        openai_embeddings.EmbeddingsRequest,
        errors=GENERATES,
    ),
    "/v1/responses": Doc(
        "A response",
        responses.Response,
        ResponsesRequest,
        Event,
        (*GENERATES, 404),
        tells=(DROPPED, PROMPT_CACHE),
    ),
    "/v1/responses/compact": Doc(
        "A conversation made shorter",
        compact.CompactedResponse,
        compact.CompactRequest,
        errors=(*GENERATES, 404),
        tells=(DROPPED, PROMPT_CACHE),
    ),
    "/v1/responses/input_tokens": Doc(
        "Tokens of a response's prompt", responses.InputTokens, ResponsesRequest, errors=(*GENERATES, 404)
    ),
    "/v1/responses/{id}": Doc(
        "A kept response", responses.Response, event=Event, errors=ASKS, path=RESPONSE, query=FOLLOW
    ),
    "DELETE /v1/responses/{id}": Doc("Forget a response", responses.Deleted, errors=LOOKS_UP, path=RESPONSE),
    "/v1/responses/{id}/cancel": Doc("End a background response", responses.Response, errors=ASKS, path=RESPONSE),
    "/v1/responses/{id}/input_items": Doc(
        "What a response was made of", ItemList, errors=ASKS, path=RESPONSE, query=PAGE
    ),
    "/v1/conversations": Doc(
        "Begin a conversation", conversations.Conversation, conversations.CreateConversation, errors=KEEPS
    ),
    "/v1/conversations/{id}": Doc("A conversation", conversations.Conversation, errors=LOOKS_UP, path=CONVERSATION),
    "POST /v1/conversations/{id}": Doc(
        "Give it other metadata",
        conversations.Conversation,
        conversations.UpdateConversation,
        errors=KEEPS,
        path=CONVERSATION,
    ),
    "DELETE /v1/conversations/{id}": Doc(
        "Forget a conversation", conversations.ConversationDeleted, errors=LOOKS_UP, path=CONVERSATION
    ),
    "/v1/conversations/{id}/items": Doc("Its items", ItemList, errors=ASKS, path=CONVERSATION, query=PAGE),
    "POST /v1/conversations/{id}/items": Doc(
        "Add items", ItemList, conversations.AddItems, errors=KEEPS, path=CONVERSATION
    ),
    "/v1/conversations/{id}/items/{item}": Doc("One item", Item, errors=ASKS, path=CONVERSATION_ITEM),
    "DELETE /v1/conversations/{id}/items/{item}": Doc(
        "Take an item out", conversations.Conversation, errors=ASKS, path=CONVERSATION_ITEM
    ),
    "/v1/messages": Doc(
        "Anthropic's messages",
        anthropic_answer.AssistantMessage,
        anthropic.MessagesRequest,
        anthropic_answer.StreamEvent,
        GENERATES,
        tells=(PROMPT_CACHE,),
        error=AnthropicErrorBody,
    ),
    "/v1/messages/count_tokens": Doc(
        "Tokens of a prompt of messages",
        anthropic.TokenCount,
        anthropic.CountRequest,
        errors=GENERATES,
        error=AnthropicErrorBody,
    ),
}
for _path, _summary in (("transcriptions", "What is said in a recording"), ("translations", "The same in English")):
    DOCS[f"/v1/audio/{_path}"] = Doc(
        _summary,
        transcriptions.Transcript,
        form=transcriptions.TranscriptionForm,
        files={"file": "A recording: wav, mp3, flac, ogg, opus, m4a, aac, webm, or a film with sound."},
        event=transcriptions.TranscriptEvent,
        errors=GENERATES,
    )
DOCS["/v1/audio/speech"] = Doc(
    "A text read aloud",
    request=speech.SpeechCreateRequest,
    media="audio/mpeg",
    errors=GENERATES,
)
DOCS["/v1/images/generations"] = Doc(
    "Pictures of what a prompt says",
    images.ImagesResponse,
    images.ImageRequest,
    event=images.ImageEvent,
    errors=GENERATES,
)
DOCS["/v1/images/drawn/{name}"] = Doc(
    "A picture by its address", media="image/*", errors=LOOKS_UP, path={"name": "What nobody can guess."}
)
DOCS["/v1/images/edits"] = Doc(
    "A picture that is changed as a prompt says",
    images.ImagesResponse,
    form=images.ImageEditForm,
    files={"image": "The picture: PNG, JPEG, WebP or GIF."},
    optional_files={"mask": "A PNG of the same size, transparent wherever the picture may change; the rest is kept."},
    event=images.EditEvent,
    errors=GENERATES,
)
DOCS["/v1/audio/voices"] = Doc(
    "Voices of the models that speak",
    speech.VoiceList,
    errors=(400, 404, 500),
    query={"model": "Only those of this model, which is loaded for it."},
)
DOCS["/v1/cache/explain"] = Doc(
    "What is kept of a prompt, and where it differs", cache.Explanation, cache.ExplainRequest, errors=GENERATES
)
for _path in ("/tokenize", "/v1/tokenize"):
    DOCS[_path] = Doc(
        "Tokens of a text",
        tokens.TokenizeAnswer,
        tokens.TokenizeRequest,
        errors=GENERATES,
    )
for _path in ("/detokenize", "/v1/detokenize"):
    DOCS[_path] = Doc("Text of tokens", tokens.DetokenizeAnswer, tokens.DetokenizeRequest, errors=GENERATES)
for _path in ("/rerank", "/v1/rerank", "/v2/rerank"):
    DOCS[_path] = Doc(
        "Documents by relevance",
        scores.RerankAnswer,
        scores.RerankRequest,
        errors=GENERATES,
    )
for _path in ("/score", "/v1/score"):
    DOCS[_path] = Doc("Relevance of pairs of texts", scores.ScoresAnswer, scores.ScoresRequest, errors=GENERATES)
for _path in (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    *(f"{_version}{_results}" for _results in ("/rerank", "/score") for _version in ("", "/v1")),
    "/v2/rerank",
):
    DOCS[_path] = replace(DOCS[_path], headers={**DOCS[_path].headers, **RESUMES}, tells=(*DOCS[_path].tells, JOINED))
