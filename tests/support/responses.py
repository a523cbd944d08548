"""Answers and events of `/v1/responses`, read by the SDK's own types as strictly as pydantic can."""

from __future__ import annotations

import json
from typing import Any, get_args

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

EVENTS: dict[str, type[BaseModel]] = {
    get_args(event.model_fields["type"].annotation)[0]: event for event in get_args(get_args(ResponseStreamEvent)[0])
}
# What the API sends and the SDK of today has no field for, and what a batch of this server waits for.
BEYOND = {"store", "bytes", "name", "status", "presence_penalty", "frequency_penalty", "waiting_for"}


def strict(kind: type[BaseModel], data: Any) -> Any:
    """The SDK's object; fails where it lacks a field, has a wrong type, or one that the SDK does not know."""
    parsed = kind.model_validate(data, strict=True)
    assert unknown(parsed) <= BEYOND
    return parsed


def unknown(value: Any) -> set[str]:
    """The names of all fields that the SDK's types have not."""
    if isinstance(value, list):
        return set().union(*map(unknown, value))
    if not isinstance(value, BaseModel):
        return set()
    fields = [getattr(value, name) for name in type(value).model_fields]
    return set(value.model_extra or ()).union(*map(unknown, fields))


def response(body: bytes) -> Response:
    """A whole answer."""
    return strict(Response, json.loads(body))


def stream(body: bytes) -> list[Any]:
    """The events of a stream, numbered from 0, each under the name of its type."""
    events = []
    for block in body.decode().removesuffix("\n\n").split("\n\n") if body else []:
        name, data = block.split("\n")
        parsed = json.loads(data.removeprefix("data: "))
        assert name == f"event: {parsed['type']}"
        events.append(strict(EVENTS[parsed["type"]], parsed))
    return events
