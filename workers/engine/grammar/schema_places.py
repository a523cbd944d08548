"""Where the parts of a JSON schema are, and what its references point at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urldefrag

from mlx_server.schemas.parsing.json_schema_refs import VALUES, pointed_at

Schema = dict[str, Any]

MOST_HOPS = 50
"""References that are followed one after another where only their end is of interest."""


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a schema: its path in the request, and the resource (a part with an `$id`) that it is in."""

    part: Any
    path: str
    resource: Schema


class Places:
    """An index of a schema, which stands at `param` in the request."""

    def __init__(self, root: Schema, param: str) -> None:
        self.root = root
        self._by_part: dict[int, Place] = {}
        self._resources: dict[str, Schema] = {}
        self._anchors: dict[tuple[int, str], Place] = {}
        self._dynamic: dict[str, list[Place]] = {}
        for place in walked(root, param):
            self._by_part[id(place.part)] = place
            self._register(place)

    def _register(self, place: Place) -> None:
        given, base = place.part, id(place.resource)
        if isinstance(name := given.get("$id"), str) and not name.startswith("#"):
            self._resources[name.rstrip("#")] = given
        elif isinstance(name, str):
            self._anchors[base, name[1:]] = place
        if isinstance(name := given.get("$anchor"), str):
            self._anchors[base, name] = place
        if isinstance(name := given.get("$dynamicAnchor"), str):
            self._anchors[base, name] = place
            self._dynamic.setdefault(name, []).append(place)

    def target(self, given: Schema, path: str) -> Place | None:
        """What a part's reference points at; None for nothing, or for something elsewhere."""
        reference = given.get("$ref")
        if not isinstance(reference, str):
            return None
        where, fragment = urldefrag(reference)
        here = self._by_part.get(id(given))
        resource = self._resources.get(where) if where else here.resource if here else self.root
        if resource is None:
            return None
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((id(resource), fragment))
        part = pointed_at(f"#{fragment}", resource)
        if not isinstance(part, (dict, bool)):
            return None
        return self._by_part.get(id(part)) or Place(part, path, resource)

    def only_dynamic(self, name: str) -> Place | None:
        """The one part that has this dynamic anchor: with two of them it depends on who asks."""
        found = self._dynamic.get(name, [])
        return found[0] if len(found) == 1 else None

    def seen_through(self, given: Any) -> Any:
        """A part, or what it points at if it says nothing else."""
        for _ in range(MOST_HOPS):
            if not isinstance(given, dict) or "$ref" not in given:
                break
            place = self.target(given, "")
            if place is None or any(name in ASSERTIONS for name in given if name != "$ref"):
                break
            given = place.part
        return given


def walked(root: Schema, param: str) -> Iterator[Place]:
    """All objects in a schema, itself too, without what is a value."""
    pending = [Place(root, param, root)]
    while pending:
        place = pending.pop()
        if isinstance(place.part, list):
            pending += [
                Place(inner, f"{place.path}[{i}]", place.resource)
                for i, inner in enumerate(place.part)
                if isinstance(inner, (dict, list))
            ]
            continue
        name = place.part.get("$id")
        resource = place.part if isinstance(name, str) and not name.startswith("#") else place.resource
        yield Place(place.part, place.path, resource)
        pending += [
            Place(inner, f"{place.path}.{name}", resource)
            for name, inner in place.part.items()
            if isinstance(inner, (dict, list)) and name not in VALUES
        ]


NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
STRINGS = ("minLength", "maxLength", "pattern", "format")
ARRAYS = (
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedItems",
)
OBJECTS = (
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
)
APPLIED = ("$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else")
ASSERTIONS = frozenset(("type", "enum", "const", *NUMBERS, *STRINGS, *ARRAYS, *OBJECTS, *APPLIED))
"""The keywords of drafts 4 to 2020-12 that may make a document invalid; all others are annotations."""
