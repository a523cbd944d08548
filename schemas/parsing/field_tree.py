"""What of a decoded body a type looks at: the known fields at every depth, and where JSON of any form may stand."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from msgspec import inspect

PASSED_OVER = "passed_over"
"""The class variable of a struct that names fields which answers have, and which say nothing in a request."""

LISTS = (inspect.ListType, inspect.VarTupleType, inspect.SetType, inspect.FrozenSetType)


@dataclass(eq=False, slots=True)
class FieldTree:
    """One place in a body. `inner` are those of its known fields that hold more than a plain value."""

    field_names: set[str] | None = None
    """The fields of an object; None where its keys are a client's own, or no object may stand."""
    inner: dict[str, FieldTree] = field(default_factory=dict)
    tag_field: str | None = None
    tagged: dict[Any, FieldTree] = field(default_factory=dict)
    """Where the value of `tag_field` decides which fields an object has."""
    items: FieldTree | None = None
    values: FieldTree | None = None
    """What the values of a client's own keys look like."""
    free: bool = False
    """JSON of any form."""

    @property
    def plain(self) -> bool:
        """There is nothing to look at."""
        return not (self.free or self.tagged or self.items or self.values) and self.field_names is None


def fields_of(*types: Any) -> frozenset[str]:
    """The fields that structs have in JSON: of what the server writes, for the `passed_over` of what takes it back."""
    structs = [info for type_ in types if isinstance(info := inspect.type_info(type_), inspect.StructType)]
    names = {member.encode_name for struct in structs for member in struct.fields}
    return frozenset(names | {struct.tag_field for struct in structs if struct.tag_field is not None})


@functools.cache
def field_tree_of(type_: Any) -> FieldTree:
    """The shape of a msgspec type."""
    return Builder().build(inspect.type_info(type_))


class Builder:
    """Follows types into each other, also those that hold themselves."""

    def __init__(self) -> None:
        self._structs: dict[type, FieldTree] = {}

    def build(self, given: inspect.Type) -> FieldTree:
        """The shape of one type."""
        shape = FieldTree()
        for part in given.types if isinstance(given, inspect.UnionType) else (given,):
            self._add(shape, part)
        return shape

    def _add(self, shape: FieldTree, part: inspect.Type) -> None:
        """Let `part` stand in this place too."""
        match part:
            case inspect.AnyType() | inspect.RawType():
                shape.free = True
            case inspect.Metadata():
                self._add(shape, part.type)
            case inspect.StructType() if part.tag_field is not None:
                shape.tag_field = part.tag_field
                shape.tagged[part.tag] = self._struct(part)
            case inspect.StructType():
                struct = self._struct(part)
                shape.field_names, shape.inner = struct.field_names, struct.inner
            case inspect.DictType():
                values = self.build(part.value_type)
                shape.free |= values.free
                shape.values = None if values.plain else values
            case _ if isinstance(part, LISTS):
                items = self.build(part.item_type)
                shape.items = None if items.plain else items

    def _struct(self, struct: inspect.StructType) -> FieldTree:
        """The fields of an object; those that its class passes over are known, and nobody looks at them."""
        if struct.cls in self._structs:
            return self._structs[struct.cls]
        shape = self._structs[struct.cls] = FieldTree(field_names={struct.tag_field} if struct.tag_field else set())
        assert shape.field_names is not None
        shape.field_names |= getattr(struct.cls, PASSED_OVER, frozenset())
        for member in struct.fields:
            shape.field_names.add(member.encode_name)
            inner = self.build(member.type)
            if not inner.plain:
                shape.inner[member.encode_name] = inner
        return shape
