"""Valid bodies, rich in fields, for each endpoint that takes one: what fuzz.py makes others of."""

from __future__ import annotations

from typing import Any

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
"""A PNG of one pixel, and a WAV file without a sample."""

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0}, "b": {"enum": ["x", "y"]}, "c": {"$ref": "#/$defs/t"}},
    "$defs": {"t": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "maxItems": 2}},
    "additionalProperties": False,
}
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "seed": 7}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "How is it in Rome?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
]
SIGHT = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
SOUND = {"type": "input_audio", "input_audio": {"data": SILENCE, "format": "wav"}}

CALLS: dict[str, Any] = {
    "messages": CONVERSATION,
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "stop": ["x", "\n\n"],
    "stream": True,
    "stream_options": {"include_usage": True},
    **SAMPLING,
}
CHOICES: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Answer in JSON."}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    "n": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"5": 1.5},
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
}
SHOWN: dict[str, Any] = {
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Look."}, SIGHT]}],
    "metadata": {"a": "b"},
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "chat_template_kwargs": {"enable_thinking": False},
}
HEARD: dict[str, Any] = {
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Listen."}, SOUND]}],
    "user": "somebody",
    "prediction": {"type": "content", "content": "Look."},
    "cache_salt": "a",
}
RESPONSE: dict[str, Any] = {
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Sunny."},
    ],
    "instructions": "Be brief.",
    "tools": [{"type": "function", **FUNCTION}],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "include": ["reasoning.encrypted_content"],
    "store": True,
    "stream": True,
    **SAMPLING,
}
MESSAGE: dict[str, Any] = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "How is it in Rome?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "Sunny."}]},
    ],
    "tools": [{"name": "weather", "description": "Tells it.", "input_schema": PARAMETERS}],
    "tool_choice": {"type": "auto"},
    "stop_sequences": ["x"],
    "thinking": {"type": "disabled"},
    "stream": True,
    "top_k": 5,
}
COMPLETION: dict[str, Any] = {
    "prompt": ["one", "two"],
    "echo": True,
    "logprobs": 2,
    "best_of": 2,
    "n": 2,
    "stop": "x",
    **SAMPLING,
}
ITEMS = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
RERANK = {"query": "a cat", "documents": ["a kitten", {"text": "rates"}], "top_n": 1, "return_documents": True}
TRANSCRIPTION = {"file": ("a.wav", SILENCE), "response_format": "verbose_json", "timestamp_granularities[]": "word"}
EDIT = {"image": ("a.png", PIXEL), "prompt": "a cat", "size": "64x64", "n": "1", "seed": "1"}

SEEDS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"model": "tiny", "max_tokens": 2, **CALLS}),
    ("/v1/chat/completions", {"model": "tiny", "max_tokens": 2, **CHOICES}),
    ("/v1/chat/completions", {"model": "sees", "max_tokens": 2, **SHOWN}),
    ("/v1/chat/completions", {"model": "scripted", "max_tokens": 2, **HEARD}),
    ("/v1/completions", {"model": "tiny", "max_tokens": 2, **COMPLETION}),
    ("/v1/responses", {"model": "tiny", "max_output_tokens": 2, **RESPONSE}),
    ("/v1/responses/input_tokens", {"model": "tiny", **RESPONSE}),
    ("/v1/responses/compact", {"model": "tiny", "input": RESPONSE["input"], "instructions": "Be brief."}),
    ("/v1/messages", {"model": "tiny", "max_tokens": 2, **MESSAGE}),
    ("/v1/messages/count_tokens", {"model": "tiny", **MESSAGE}),
    ("/v1/conversations", {"items": ITEMS, "metadata": {"a": "b"}}),
    ("/v1/conversations/CONVERSATION", {"metadata": {"a": "b"}}),
    ("/v1/conversations/CONVERSATION/items", {"items": ITEMS}),
    ("/v1/embeddings", {"model": "scripted", "input": ["one", "two"], "encoding_format": "base64", "dimensions": 4}),
    ("/v1/rerank", {"model": "scripted", **RERANK}),
    ("/v1/score", {"model": "scripted", "text_1": "a cat", "text_2": ["a kitten", "rates"]}),
    ("/v1/audio/speech", {"model": "tiny", "input": "Hello.", "voice": "a", "response_format": "mp3", "speed": 1.5}),
    ("/v1/audio/transcriptions", {"model": "tiny", **TRANSCRIPTION}),
    ("/v1/images/generations", {"model": "tiny", "prompt": "a cat", "size": "64x64", "n": 1, "seed": 3, "steps": 2}),
    ("/v1/images/edits", {"model": "tiny", **EDIT}),
    ("/v1/tokenize", {"model": "tiny", "messages": CONVERSATION, "add_generation_prompt": True}),
    ("/v1/detokenize", {"model": "tiny", "tokens": [1, 2, 3]}),
    ("/v1/cache/explain", {"model": "tiny", "messages": CONVERSATION}),
    ("/v1/models/tiny/generate", {"prompt": "Hello", "max_tokens": 2, "temperature": 0.5}),
    ("/v1/manager/models/tiny/priority", {"priority": 1}),
    ("/v1/settings/auto_unload_inactive_models", {"value": False}),
    ("/api/hardware/performance-mode", {"mode": "balanced"}),
]
"""Paths and bodies; one with a file, a pair of a name and contents, is sent as a form.

What would have a model loaded, unloaded, fetched or deleted, or the server stopped, is left out: the worker that is
there at the beginning must be there at the end. CONVERSATION stands for the id of one."""
