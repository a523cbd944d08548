"""References inside JSON schemas: those that only lead back to themselves describe no value at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from mlx_server.schemas.errors import InvalidRequest

MAX_STEPS = 100
"""How many references may lead from one to the next."""

VALUES = ("enum", "const", "default", "examples")
"""Keywords that hold values, not schemas."""


def check_references(schema: dict[str, Any], param: str) -> None:
    """Raise InvalidRequest for a reference that leads back to itself without anything in between.

    One that leads back through a property or an item is fine: that is how trees are described.
    """
    grounded: set[int] = set()
    for part in parts_of(schema):
        if "$ref" in part and not is_grounded(part, schema, [], grounded, param):
            shown = str(part["$ref"])[:100]
            raise InvalidRequest(f"`{param}`: the reference {shown!r} leads back to itself.", param)


def parts_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All objects in a schema that may be schemas."""
    pending: list[Any] = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += [inner for name, inner in value.items() if name not in VALUES]
        elif isinstance(value, list):
            pending += value


def is_grounded(part: Any, root: dict[str, Any], steps: list[int], grounded: set[int], param: str) -> bool:
    """Whether a schema says something by itself. `steps` lead to it, `grounded` are those that are known to do so."""
    if not isinstance(part, dict) or id(part) in grounded:
        return True
    if id(part) in steps:
        return False
    if len(steps) >= MAX_STEPS:
        raise InvalidRequest(f"`{param}`: more than {MAX_STEPS} references lead from one to the next.", param)
    steps = [*steps, id(part)]
    target = pointed_at(part.get("$ref"), root)
    everywhere = [*([] if target is None else [target]), *as_list(part.get("allOf"))]
    choices = [as_list(part.get(name)) for name in ("anyOf", "oneOf")]
    found = all(is_grounded(other, root, steps, grounded, param) for other in everywhere) and all(
        any(is_grounded(other, root, steps, grounded, param) for other in some) for some in choices if some
    )
    if found:
        grounded.add(id(part))
    return found


def pointed_at(reference: Any, root: dict[str, Any]) -> Any:
    """What a reference within the document points at (RFC 6901); None for nothing, or something elsewhere."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    place: Any = root
    for step in unquote(reference[1:]).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict):
            place = place.get(name)
        elif isinstance(place, list) and name.isdecimal() and int(name[:6]) < len(place):
            place = place[int(name[:6])]
        else:
            return None
    return place


def as_list(value: Any) -> list[Any]:
    """A list, or an empty one where something else stands."""
    return value if isinstance(value, list) else []
