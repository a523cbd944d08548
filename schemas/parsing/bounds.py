"""Bounds on JSON values that go on as they are: nobody knows what they mean, so only their size can be checked."""

from __future__ import annotations

from typing import Any

from mlx_server.schemas.internal.errors import InvalidRequest

MAX_VALUES = 10_000
MAX_DEPTH = 64
MAX_CHARACTERS = 1 << 17
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1


def check_json(value: Any, param: str) -> None:
    """Raises InvalidRequest for a value that is too large, too deep or has a number that can't be sent on."""
    values = characters = 0
    pending = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        values += 1
        match value:
            case dict():
                characters += sum(map(len, value))
                pending += [(item, depth + 1) for item in value.values()]
            case list():
                pending += [(item, depth + 1) for item in value]
            case str():
                characters += len(value)
            case int() if not MIN_INTEGER <= value <= MAX_INTEGER:
                raise InvalidRequest(f"`{param}`: integers must fit into 64 bits.", param)
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"`{param}`: at most {MAX_DEPTH} levels are allowed.", param)
        if values + len(pending) > MAX_VALUES or characters > MAX_CHARACTERS:
            limits = f"at most {MAX_VALUES} values and {MAX_CHARACTERS} characters are allowed"
            raise InvalidRequest(f"`{param}`: {limits}.", param)
