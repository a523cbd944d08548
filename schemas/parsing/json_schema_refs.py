"""References inside JSON schemas: those that only lead back to themselves describe no value at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from mlx_server.schemas.internal.errors import InvalidRequest

VALUES = ("enum", "const", "default", "examples")
"""Keywords that hold values, not schemas."""


def check_references(schema: dict[str, Any], param: str) -> None:
    """Raise InvalidRequest for a reference that leads back to itself without anything in between.

    One that leads back through a property or an item is fine: that is how trees are described.
    """
    grounded = grounded_in(schema)
    for part in parts_of(schema, without=VALUES):
        if "$ref" in part and id(part) not in grounded:
            reference = str(part["$ref"])[:100]
            raise InvalidRequest(f"`{param}`: the reference {reference!r} leads back to itself.", param)


def parts_of(schema: dict[str, Any], without: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """All objects in a schema, itself too; not what stands under the names in `without`."""
    pending: list[Any] = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += [inner for name, inner in value.items() if name not in without]
        elif isinstance(value, list):
            pending += value


def grounded_in(root: dict[str, Any]) -> set[int]:
    """The ids of the objects that say something by themselves, found from those that refer to nothing."""
    missing: dict[int, set[int]] = {}
    """By object: the numbers of its needs that are not met yet."""
    waiting: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    """By object: whose needs it meets, and the numbers of these."""
    for part in parts_of(root):
        wanted = dict(enumerate(needs_of(part, root)))
        missing[id(part)] = set(wanted)
        for number, those in wanted.items():
            for other in those:
                waiting[id(other)].append((id(part), number))
    ready = [name for name, needs in missing.items() if not needs]
    grounded = set(ready)
    while ready:
        for name, number in waiting[ready.pop()]:
            missing[name].discard(number)
            if not missing[name] and name not in grounded:
                grounded.add(name)
                ready.append(name)
    return grounded


def needs_of(part: dict[str, Any], root: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """What a schema stands for in the same place of a value: of each list at least one must say something."""
    targets = [[pointed_at(part.get("$ref"), root)], *([other] for other in as_list(part.get("allOf")))]
    choices = [as_list(part.get(name)) for name in ("anyOf", "oneOf")]
    return [those for those in (*targets, *choices) if those and all(isinstance(other, dict) for other in those)]


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
