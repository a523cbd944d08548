"""What can be said of JSON schemas without a document: their values, whether two share one, what is not of one.

All take schemas as clients send them. What is not sure is said of none: a list is None, a truth False.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any, Protocol

from mlx_server.workers.engine.grammar.schema_patterns import APART
from mlx_server.workers.engine.grammar.schema_places import ASSERTIONS

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
MOST_NUMBERS = 16
MOST_DEPTH = 8
CHARACTERS = 32
"""Of values: to look at so many counts like looking at a schema."""


class See(Protocol):
    """A schema, or what it refers to if it says nothing else. Raises InvalidRequest after too many steps."""

    def __call__(self, schema: Any, steps: int = 1) -> Any: ...


def said(schema: Any) -> set[str]:
    """The keywords of a schema that are no annotations."""
    return {name for name in schema if name in ASSERTIONS} if isinstance(schema, dict) else set()


def as_key(value: Any) -> str:
    """Equal for equal values: 1 and 1.0 are, true and 1 are not."""
    return json.dumps(integral(value), sort_keys=True)


def integral(value: Any) -> Any:
    """The same with whole numbers as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [integral(item) for item in value]
    if isinstance(value, dict):
        return {name: integral(item) for name, item in value.items()}
    return value


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once."""
    return list({as_key(value): value for value in values}.values())


def type_of(value: Any) -> str:
    """A value's type; a whole number is an integer."""
    value = integral(value)
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "object"


def types_of(schema: Any, see: See) -> set[str]:
    """The types that a schema's values may have; numbers are integers too."""
    schema = see(schema)
    given = schema.get("type") if isinstance(schema, dict) else None
    if given is None:
        values = values_of(schema, see)
        return set(TYPES) if values is None else {type_of(value) for value in values}
    kinds = {kind for kind in TYPES if kind in (given if isinstance(given, list) else [given])}
    return (kinds | {"integer"} if "number" in kinds else kinds) or set(TYPES)


def values_of(schema: Any, see: See, depth: int = MOST_DEPTH) -> list[Any] | None:
    """All values of a schema, if it lists them."""
    schema = see(schema)
    if schema is False:
        return []
    if not isinstance(schema, dict) or depth == 0:
        return None
    words = said(schema)
    if words & {"const", "enum"} and words <= {"const", "enum", "type"}:
        given = schema["enum"] if isinstance(schema.get("enum"), list) else [schema.get("const")]
        keyed = {as_key(value): value for value in typed(given, schema.get("type"))}
        see(schema, sum(8 + len(key) for key in keyed) // CHARACTERS)
        only = as_key(schema["const"]) if "const" in schema else None
        return [value for key, value in keyed.items() if only in (None, key)]
    if words in ({"anyOf"}, {"oneOf"}):
        parts = [values_of(part, see, depth - 1) for part in as_list(schema.get("anyOf", schema.get("oneOf")))]
        return None if None in parts else distinct(itertools.chain.from_iterable(part for part in parts if part))
    if "type" in words and words <= {"type", "minimum", "maximum"}:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return values_of_types(kinds, schema)
    return None


def values_of_types(kinds: list[Any], schema: dict[str, Any]) -> list[Any] | None:
    """All values of these types, if they are few."""
    found: list[Any] = []
    for kind in kinds:
        match kind:
            case "null":
                found.append(None)
            case "boolean":
                found += [True, False]
            case "integer":
                least, most = schema.get("minimum"), schema.get("maximum")
                if type(least) is not int or type(most) is not int or most - least >= MOST_NUMBERS:
                    return None
                found += range(least, most + 1)
            case _:
                return None
    return found


def typed(values: list[Any], kind: Any) -> list[Any]:
    """The values that have a type; all if that is None."""
    if kind is None:
        return values
    kinds = kind if isinstance(kind, list) else [kind]
    return [v for v in values if type_of(v) in kinds or (type_of(v) == "integer" and "number" in kinds)]


def as_list(value: Any) -> list[Any]:
    """A list, or an empty one where something else stands."""
    return value if isinstance(value, list) else []


def as_dict(value: Any) -> dict[str, Any]:
    """An object, or an empty one where something else stands."""
    return value if isinstance(value, dict) else {}


def disjoint(one: Any, other: Any, see: See, depth: int = MOST_DEPTH) -> bool:
    """Whether no document is of both."""
    one, other = see(one), see(other)
    if one is False or other is False:
        return True
    if not isinstance(one, dict) or not isinstance(other, dict) or depth == 0:
        return False
    if not types_of(one, see) & types_of(other, see):
        return True
    left, right = values_of(one, see), values_of(other, see)
    if left is not None and right is not None:
        return not {as_key(v) for v in left} & {as_key(v) for v in right}
    return (
        any(parts_apart(a, b, see, depth) for a, b in ((one, other), (other, one)))
        or objects_apart(one, other, see, depth)
        or scalars_apart(one, other, see)
    )


def parts_apart(one: dict[str, Any], other: dict[str, Any], see: See, depth: int) -> bool:
    """Whether what a schema is composed of keeps it apart from another."""
    for name in ("anyOf", "oneOf"):
        parts = as_list(one.get(name))
        if parts and all(disjoint(part, other, see, depth - 1) for part in parts):
            return True
    return any(disjoint(part, other, see, depth - 1) for part in as_list(one.get("allOf")))


def objects_apart(one: dict[str, Any], other: dict[str, Any], see: See, depth: int) -> bool:
    """Whether a property that must be there keeps two objects apart."""
    if types_of(one, see) & types_of(other, see) != {"object"}:
        return False
    for a, b in ((one, other), (other, one)):
        mine, theirs = as_dict(a.get("properties")), as_dict(b.get("properties"))
        for name in as_list(a.get("required")):
            if name in theirs and disjoint(mine.get(name, True), theirs[name], see, depth - 1):
                return True
            if name not in theirs and b.get("additionalProperties") is False and not b.get("patternProperties"):
                return True
    return False


def scalars_apart(one: dict[str, Any], other: dict[str, Any], see: See) -> bool:
    """Whether ranges or formats keep two numbers or strings apart."""
    shared = types_of(one, see) & types_of(other, see)
    if shared == {"string"}:
        formats = {one.get("format"), other.get("format")}
        return len(formats) == 2 and formats <= APART
    if shared <= {"integer", "number"}:
        return any(below(a.get("maximum"), b.get("minimum")) for a, b in ((one, other), (other, one)))
    return False


def below(most: Any, least: Any) -> bool:
    """Whether an upper bound is below a lower one."""
    return all(type(bound) in (int, float) for bound in (most, least)) and bool(most < least)


def tag_of(members: list[Any], see: See) -> str | None:
    """The property whose values tell objects apart, required or not."""
    parts = [see(member) for member in members]
    if not all(types_of(part, see) == {"object"} for part in parts):
        return None
    properties = [as_dict(part.get("properties")) for part in parts]
    for name in properties[0]:
        values = [values_of(these.get(name, True), see) for these in properties]
        keys = [as_key(v) for those in values for v in those or ()]
        if None not in values and len(keys) == len(set(keys)):
            return name
    return None


def negated(schema: Any, beside: dict[str, Any], see: See, depth: int = MOST_DEPTH) -> list[Any] | None:
    """Schemas of which a document is of one or more exactly where it is not of this one.

    `beside` holds for the document anyway. None if there are no such schemas.
    """
    schema = see(schema)
    if isinstance(schema, bool) or not isinstance(schema, dict) or depth == 0:
        return [not schema] if isinstance(schema, bool) else None
    words = said(schema)
    if not words:
        return [False]
    if words == {"not"}:
        return [schema["not"]]
    if words == {"type"}:
        return other_types(types_of(schema, see), types_of(beside, see))
    if (listed := values_of(schema, see)) is not None:
        return other_values(listed, beside, see)
    if words == {"allOf"}:
        parts = [negated(part, beside, see, depth - 1) for part in as_list(schema["allOf"])]
        return None if None in parts else list(itertools.chain.from_iterable(part for part in parts if part))
    if words == {"anyOf"}:
        parts = [negated(part, beside, see, depth - 1) for part in as_list(schema["anyOf"])]
        return None if None in parts else [{"allOf": [{"anyOf": part} for part in parts]}]
    if words <= {"type", "properties", "required"} and types_of(beside, see) == {"object"}:
        return other_objects(schema, beside, see, depth)
    return None


def other_types(these: set[str], beside: set[str]) -> list[Any] | None:
    """All types but these."""
    if "integer" in these and "number" not in these and "number" in beside:
        return None
    rest = [kind for kind in TYPES if kind in beside and kind not in these]
    return [{"type": rest}] if rest else [False]


def other_values(these: list[Any], beside: dict[str, Any], see: See) -> list[Any] | None:
    """All values but these, of those that there are."""
    if not {type_of(value) for value in these} & types_of(beside, see):
        return [True]
    everything = values_of({name: beside[name] for name in beside if name in ("type", "enum", "const", "$ref")}, see)
    if everything is None:
        return None
    keys = {as_key(value) for value in these}
    return [{"enum": [value for value in everything if as_key(value) not in keys]}]


def other_objects(schema: dict[str, Any], beside: dict[str, Any], see: See, depth: int) -> list[Any] | None:
    """Objects that lack something that is required, or have a property of another kind."""
    found: list[Any] = [{"properties": {name: False}} for name in as_list(schema.get("required"))]
    known = as_dict(beside.get("properties"))
    for name, part in as_dict(schema.get("properties")).items():
        others = negated(part, as_dict(see(known.get(name, {}))), see, depth - 1)
        if others is None:
            return None
        found += [{"properties": {name: each}, "required": [name]} for each in others if each is not False]
    return found or [False]
