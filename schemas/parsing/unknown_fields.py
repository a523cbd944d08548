"""A look at a body beside its type: which fields nobody knows, and whether JSON of any form is fit to travel."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.bounds import check_json
from mlx_server.schemas.parsing.field_tree import FieldTree

MAX_UNKNOWN = 100
"""How many unknown fields are named; the walk goes on, but nobody reads more."""

Path = tuple[Any, ...]
"""A place as `(path of the object or list, key or index)`; `()` is the body. Made a text only where it is told."""


def text_of(path: Path) -> str:
    """A place as clients read it: `messages[0].role`."""
    steps = []
    while path:
        path, step = path
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(steps)).removeprefix(".")


def refuse_unknown(names: Sequence[str]) -> None:
    """Raises InvalidRequest for the first field that nobody knows, if there is one."""
    if names:
        raise InvalidRequest(f"`{names[0]}` is not a known parameter.", names[0], "unknown_parameter")


class UnknownFields:
    """Goes through one body once. A null says nothing, whatever it is called."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def visit(self, value: Any, shape: FieldTree, path: Path) -> None:
        """Look at a decoded value. Raises InvalidRequest for what can't be passed on."""
        if shape.free:
            check_json(value, text_of(path))
        elif type(value) is dict:
            self._visit_object(value, shape, path)
        elif type(value) is list and shape.items is not None:
            for index, item in enumerate(value):
                self.visit(item, shape.items, (path, index))

    def _visit_object(self, value: dict[str, Any], shape: FieldTree, path: Path) -> None:
        if shape.tagged:
            shape = shape.tagged.get(value.get(shape.tag_field or ""), shape)
        field_names = shape.field_names
        if field_names is not None and not field_names.issuperset(value):
            self.tell((name for name, found in value.items() if name not in field_names and found is not None), path)
        for name, inner in shape.inner.items():
            if (found := value.get(name)) is not None:
                self.visit(found, inner, (path, name))
        if shape.values is not None:
            for name, found in value.items():
                self.visit(found, shape.values, (path, name))

    def tell(self, names: Iterable[str], path: Path) -> None:
        """Note unknown fields of the object at `path`."""
        remaining = MAX_UNKNOWN - len(self.unknown)
        self.unknown += [text_of((path, name)) for name in itertools.islice(names, remaining)]
