"""Strings that stand in a call without quotes and escapes: which texts a schema allows, in llguidance's notation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlx_server.workers.engine.grammar.schema_patterns import ANY, choices, plain
from mlx_server.workers.engine.output.tool_calls.argument_types import KINDS, NULL, STRING

Schema = dict[str, Any]

TEXT_WORDS = frozenset({"type", "pattern", "minLength", "maxLength", "allOf"})


@dataclass(frozen=True, slots=True)
class Raw:
    """A text that matches all these expressions."""

    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fixed:
    """One value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Json:
    """What a schema allows that is no string."""

    schema: Schema


Choice = Raw | Fixed | Json


class UnsayableError(Exception):
    """Raised for a schema whose strings can't be told apart from other values, or not be said as expressions."""


def choices_of(schema: Any, definitions: Schema) -> list[Choice]:
    """What an enforceable schema allows, strings apart from others. Raises UnsayableError."""
    for _ in range(len(definitions) + 1):
        if not isinstance(schema, dict) or set(schema) != {"$ref"}:
            break
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if not isinstance(schema, dict) or "$ref" in schema:
        raise UnsayableError
    if set(schema) == {"anyOf"}:
        return [choice for each in schema["anyOf"] for choice in choices_of(each, definitions)]
    types = types_of(schema)
    if "enum" in schema or "const" in schema:
        if set(schema) - {"enum", "const", "type"} or ("enum" in schema and "const" in schema):
            raise UnsayableError
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return [Fixed(value) for value in values if types is None or kind_of(value) & set(types)]
    if types is None:
        raise UnsayableError
    others = [kind for kind in types if kind != STRING]
    found: list[Choice] = [Fixed(None)] if NULL in others else []
    if STRING in types:
        found.append(text_of(schema, alone=not others))
    if rest := [kind for kind in others if kind != NULL]:
        found.append(Json({**schema, "type": rest}))
    return found


def types_of(schema: Schema) -> list[str] | None:
    """The types that are named."""
    given = schema.get("type")
    return [given] if isinstance(given, str) else given


def kind_of(value: Any) -> set[str]:
    """The types of a value."""
    kind = KINDS[type(value)]
    return {kind, "number"} if kind == "integer" else {kind}


def text_of(schema: Schema, *, alone: bool) -> Raw:
    """The texts of a schema; `alone`: it has no others than strings. Raises UnsayableError."""
    words = set(schema) & {"format", "allOf", "anyOf"} if not alone else set(schema)
    if words - TEXT_WORDS:
        raise UnsayableError
    parts = [schema, *schema.get("allOf", ())]
    if any(not isinstance(part, dict) or (part is not schema and set(part) != {"pattern"}) for part in parts):
        raise UnsayableError
    conditions = [whole(part["pattern"]) for part in parts if "pattern" in part]
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    if least or most != "":
        conditions.append(f"(?s:.{{{least},{most}}})")
    return Raw(tuple(conditions))


def whole(pattern: str) -> str:
    """An expression for the whole text, of one that is looked for in it. Raises UnsayableError."""
    return "(?:" + "|".join(map(whole_choice, choices(pattern))) + ")"


def whole_choice(pattern: str) -> str:
    """The same for a pattern without alternatives at the top."""
    begins = pattern.startswith("^")
    ends = pattern.endswith("$") and any(at == len(pattern) - 1 for at, _ in plain(pattern))
    inner = pattern[begins : len(pattern) - ends]
    if any(character in "^$" for _, character in plain(inner)) or re.search(r"(?<!\\)(?:\\\\)*\\[bBAz]", inner):
        raise UnsayableError
    return ("" if begins else f"{ANY}*") + f"(?:{inner})" + ("" if ends else f"{ANY}*")


def regex(expression: str) -> str:
    """A regular expression in Lark."""
    text = re.sub(r"\\.|/", lambda found: found[0] if found[0] != "/" else r"\/", expression, flags=re.DOTALL)
    return "/" + text.replace("\n", r"\n").replace("\r", r"\r") + "/"


def without(marks: Iterable[str]) -> str:
    """Any text in which none of these marks stands, in Lark."""
    literals = [re.escape(mark) for mark in marks if mark]
    anything = regex("(?s:.*)")
    if not literals:
        return anything
    return f"{anything} & ~{regex('(?s:.*)(?:' + '|'.join(literals) + ')(?s:.*)')}"
