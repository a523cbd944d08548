"""The type of an argument that was written without quotes: its schema decides, never its looks alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mlx_server.workers.engine.output.tool_calls.loose_json import mended

STRING, NULL = "string", "null"
NESTED = frozenset({"object", "array"})
MOST_REFERENCES = 20

KINDS: dict[type, str] = {
    str: STRING,
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): NULL,
    list: "array",
    dict: "object",
}
PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
WHOLE = re.compile(r"(-?\d+)\.0+")


class Parameters:
    """A function's parameters by name."""

    def __init__(self, schema: Any) -> None:
        self._root = schema if isinstance(schema, dict) else {}
        properties = self._root.get("properties")
        self.known: Mapping[str, Any] = properties if isinstance(properties, dict) else {}

    def kinds(self, name: str) -> frozenset[str]:
        """The types that an argument may have, by JSON Schema's names; empty for any."""
        return kinds_of(self.known.get(name), self._root)


def kinds_of(schema: Any, root: Mapping[str, Any], references: int = 0) -> frozenset[str]:
    """The types that a schema allows; empty for any."""
    if not isinstance(schema, dict) or references > MOST_REFERENCES:
        return frozenset()
    if isinstance(reference := schema.get("$ref"), str):
        return kinds_of(referred(reference, root), root, references + 1)
    given = schema.get("type")
    if isinstance(given, (str, list)):
        return frozenset([given] if isinstance(given, str) else [kind for kind in given if isinstance(kind, str)])
    values = schema["enum"] if isinstance(schema.get("enum"), list) else [schema["const"]] if "const" in schema else []
    if values:
        return frozenset(KINDS[type(value)] for value in values if type(value) in KINDS)
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            choices = [kinds_of(choice, root, references + 1) for choice in schema[word]]
            return frozenset().union(*choices) if all(choices) else frozenset()
    parts = schema["allOf"] if isinstance(schema.get("allOf"), list) else []
    return next((kinds for part in parts if (kinds := kinds_of(part, root, references + 1))), frozenset())


def referred(reference: str, root: Mapping[str, Any]) -> Any:
    """The schema that a reference into its own document points to; None if there is none."""
    at: Any = root
    for key in reference.removeprefix("#").split("/")[1:]:
        at = at.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(at, dict) else None
    return at


def argument(text: str, kinds: frozenset[str]) -> str:
    """The JSON of an argument that may have these types; anything else becomes a string.

    Where a string is allowed, a text that looks like a number or `true` is that string. An object or a list stays one,
    and `null` stays null, if those are allowed too.
    """
    value = text.strip()
    if kind_fits(value, kinds):
        return value
    if value[:1] in ("{", "[") and kind_fits(fixed := nested(value, kinds), kinds):
        return fixed
    if STRING not in kinds:
        if kinds and kind_fits(PYTHON_WORDS.get(value, ""), kinds):
            return PYTHON_WORDS[value]
        if "integer" in kinds and (whole := WHOLE.fullmatch(value)):
            return whole.group(1)
    return json.dumps(text, ensure_ascii=False)


def nested(text: str, kinds: frozenset[str]) -> str:
    """An object or a list that is not quite JSON, as JSON; where a string is allowed too, only line breaks are
    mended."""
    if kinds & NESTED and STRING not in kinds:
        return mended(text)
    try:
        return json.dumps(json.loads(text, strict=False), ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


def kind_fits(text: str, kinds: frozenset[str]) -> bool:
    """Whether a text is JSON of one of these types."""
    try:
        kind = KINDS[type(json.loads(text, parse_constant=no_constant))]
    except (ValueError, RecursionError):
        return False
    if STRING in kinds and kind not in NESTED and kind != NULL:
        return False
    return not kinds or kind in kinds or (kind == "integer" and "number" in kinds)


def no_constant(word: str) -> Any:
    """Reject NaN and the infinities, which are not JSON. Raises ValueError."""
    raise ValueError(word)
