"""Bounded JSON schemas of many kinds: every document of theirs is short, so that a model comes to its end."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

SHORT: Schema = {"type": "string", "maxLength": 12}
DIGIT: Schema = {"type": "integer", "minimum": 0, "maximum": 9}
LEAVES: dict[str, Schema] = {
    "string": SHORT,
    "letters": {"type": "string", "pattern": "^[a-z]{2,6}$"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time", "maxLength": 20},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "integer": {"type": "integer", "minimum": -50, "maximum": 500},
    "exclusive": {"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 20},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "const": {"const": "fixed"},
    "enum": {"enum": ["red", "green", 3, None, True]},
    "nullable": {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
    "any of": {"anyOf": [DIGIT, {"enum": ["none"]}]},
    "digit": DIGIT,
}


def closed(properties: dict[str, Schema], required: list[str] | None = None, **more: Any) -> Schema:
    """An object with these properties only, all of them required unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


def array(items: Schema, most: int = 3, least: int = 0) -> Schema:
    """A short array."""
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def schemas() -> dict[str, Schema]:
    """All schemas by name, at least 50."""
    found: dict[str, Schema] = {}
    for name, leaf in LEAVES.items():
        found[f"object of {name}"] = closed({"value": leaf})
        found[f"array of {name}"] = closed({"values": array(leaf, 2)})
        found[f"nested {name}"] = closed({"outer": closed({"inner": leaf}), "n": DIGIT})
    found |= {
        "optional": closed({"a": DIGIT, "b": SHORT, "c": {"type": "boolean"}}, ["b"]),
        "none required": closed({"a": DIGIT, "b": DIGIT}, []),
        "many": closed({f"field_{i}": DIGIT for i in range(10)}),
        "deep": closed({"a": closed({"b": closed({"c": closed({"d": closed({"e": DIGIT})})})})}),
        "matrix": closed({"rows": array(array(DIGIT, 2, 2), 2, 1)}),
        "objects": closed({"people": array(closed({"name": SHORT, "age": DIGIT}), 2, 1)}),
        "union": closed({"shape": {"anyOf": [closed({"r": DIGIT}), closed({"w": DIGIT, "h": DIGIT})]}}),
        "tagged": {"anyOf": [closed({"kind": {"const": "a"}, "x": DIGIT}), closed({"kind": {"const": "b"}})]},
        "references": {**closed({"from": {"$ref": "#/$defs/p"}, "to": {"$ref": "#/$defs/p"}})}
        | {"$defs": {"p": closed({"x": DIGIT, "y": DIGIT})}},
        "reference in array": {**closed({"all": array({"$ref": "#/$defs/e"}, 2, 1)})}
        | {"$defs": {"e": {"enum": ["on", "off"]}}},
        "top-level array": array(DIGIT, 4, 2),
        "top-level string": {"type": "string", "maxLength": 8},
        "top-level enum": {"enum": ["yes", "no"]},
        "unicode keys": closed({"größe": DIGIT, "名前": SHORT}),
        "awkward keys": closed({'a "quoted" key': DIGIT, "back\\slash": DIGIT}),
        "decimal": closed({"p": {"type": "number", "minimum": 0, "maximum": 5, "multipleOf": 0.25}}),
    }
    return found
