"""Bad input: what is sent, the field that the refusal names, and a part of its message."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


class Bad(NamedTuple):
    """One malformed request. A body that is bytes is sent as it is."""

    body: dict[str, Any] | bytes
    param: str | None
    message: str
    path: str = CHAT
    status: int = 400

    def __str__(self) -> str:
        shown = self.body[:40].decode(errors="replace") if isinstance(self.body, bytes) else json.dumps(self.body)
        return f"{self.path.rpartition('/')[2]}-{shown.replace(json.dumps(MESSAGES), '…')}"[:90]

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def chat(param: str | None, message: str, **fields: Any) -> Bad:
    """A chat completion with these fields."""
    return Bad({"messages": MESSAGES, **fields}, param, message)


def messages(param: str | None, message: str, *given: Any) -> Bad:
    """A chat completion of these messages."""
    return Bad({"messages": list(given)}, param, message)


def text(param: str | None, message: str, **fields: Any) -> Bad:
    """A text completion."""
    return Bad({"prompt": "hi", **fields}, param, message, COMPLETIONS)


def raw(message: str, body: bytes, param: str | None = None) -> Bad:
    """A body that is sent as it is."""
    return Bad(body, param, message)


def user(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": content, **fields}


def tool(name: Any = "f", **fields: Any) -> dict[str, Any]:
    """A function that may be called."""
    return {"type": "function", "function": {"name": name, **fields}}


def calling(*ids: str) -> dict[str, Any]:
    """An assistant's message that calls functions."""
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def schema(of: Any) -> dict[str, Any]:
    """An answer that a JSON schema constrains."""
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": of}}


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def in_text(value: str) -> bytes:
    """A chat completion whose JSON text is written by hand at one place."""
    return b'{"messages": [{"role": "user", "content": ' + value.encode() + b"}]}"


def beside(fields: str) -> bytes:
    """A chat completion with more fields, written by hand."""
    return b'{"messages": [{"role": "user", "content": "hi"}], ' + fields.encode() + b"}"


SCHEMA = "response_format.json_schema.schema"
