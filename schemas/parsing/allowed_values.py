"""The values that a field may have where only some are allowed: msgspec's message names the wrong one alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

STEP = re.compile(r"\w+|\[[^\]]*\]")


def allowed_values(type_: Any, path: str) -> list[Any]:
    """What is allowed at a path as msgspec writes it, `messages[0].role`; empty if that is more than a few values."""
    found = [inspect.type_info(type_)]
    for step in STEP.findall(path):
        found = [inner for outer in found for one in alternatives(outer) for inner in inside(one, step)]
    values: list[Any] = []
    for one in (one for outer in found for one in alternatives(outer)):
        if isinstance(one, inspect.LiteralType):
            values += one.values
        elif isinstance(one, inspect.EnumType):
            values += [member.value for member in one.cls]
    return list(dict.fromkeys(values))


def alternatives(info: inspect.Type) -> Iterator[inspect.Type]:
    """A type without what it is wrapped in, and each type of a union."""
    if isinstance(info, inspect.Metadata):
        yield from alternatives(info.type)
    elif isinstance(info, inspect.UnionType):
        for one in info.types:
            yield from alternatives(one)
    else:
        yield info


def inside(info: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """The types of a step further down: a field's, or those of what a list or an object holds."""
    match info:
        case inspect.StructType():
            yield from (field.type for field in info.fields if field.encode_name == step)
        case inspect.ListType() | inspect.VarTupleType() if step.startswith("["):
            yield info.item_type
        case inspect.DictType() if step.startswith("["):
            yield info.value_type
        case _:
            pass
