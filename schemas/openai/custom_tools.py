"""Custom tools, which take a text: models see them as functions of one string, `input`."""

from __future__ import annotations

from typing import Any

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar


def to_grammar(format_: str, syntax: str | None, definition: str | None, path: str, inner: str) -> Grammar | None:
    """What a tool's text may be; None for any. `path` names the format, `inner` what holds its grammar.

    Raises InvalidRequest.
    """
    if format_ == "text":
        return None
    if format_ != "grammar":
        raise InvalidRequest(f"`{path}.type`: 'text' and 'grammar' are allowed, got {format_[:64]!r}.", f"{path}.type")
    if syntax not in ("lark", "regex"):
        raise InvalidRequest(f"`{inner}.syntax`: 'lark' or 'regex' is needed.", f"{inner}.syntax")
    if not definition:
        raise InvalidRequest(f"`{inner}.definition` is missing.", f"{inner}.definition")
    return Grammar("lark" if syntax == "lark" else "regex", definition, f"{inner}.definition")


def text_parameters(grammar: Grammar | None) -> dict[str, Any]:
    """The parameters of the function."""
    about = "The whole text for this tool."
    if grammar is not None:
        about += f" It must be what this {grammar.kind} grammar allows:\n{grammar.text}"
    return object_of({"input": {"type": "string", "description": about}}, "input")


def object_of(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """The schema of an object without other properties."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def as_arguments(text: str) -> str:
    """The arguments of a call with this text."""
    return msgspec.json.encode({"input": text}).decode()
