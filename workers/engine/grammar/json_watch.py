"""Where a JSON document that is being written stands, and what must differ there from what has been written."""

from __future__ import annotations

import bisect
import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mlx_server.workers.engine.grammar.json_schema import DISTINCT_ITEMS, DISTINCT_NAMES
from mlx_server.workers.engine.grammar.schema_logic import as_key
from mlx_server.workers.engine.grammar.schema_places import Schema

OPENING, CLOSING = b"{[", b"}]"
SPACE = b" \n\r\t"


@dataclass(slots=True)
class Frame:
    """An object or array that is open. `nodes` are the schemas that may hold for it; `seen` the items, or the names,
    that must not come again, sorted; `keys` stand for those of them that are objects or arrays; `start` is where the
    one begins that is being written. After the beginnings in `alive` there is something else to write, after those in
    `dead` only what is in `seen`."""

    array: bool
    nodes: list[Schema]
    distinct: bool
    seen: list[bytes] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    alive: set[bytes] = field(default_factory=set)
    dead: set[bytes] = field(default_factory=set)
    start: int | None = None
    key: str = ""
    index: int = 0
    naming: bool = True

    @property
    def steady(self) -> bool:
        """Whether all that is still to come has the schema of what is being written."""
        return self.array and all(self.index >= len(node.get("prefixItems", ())) for node in self.nodes)

    def copied(self) -> Frame:
        """One that goes on by itself."""
        own = {"seen": list(self.seen), "keys": set(self.keys), "alive": set(self.alive), "dead": set(self.dead)}
        return replace(self, **own)  # type: ignore[arg-type]

    def put(self, whole: bytes) -> None:
        """Note what must not come again."""
        bisect.insort(self.seen, whole)
        self.alive.difference_update(whole[:size] for size in range(len(whole) + 1))
        if whole[:1] in (b"{", b"["):
            self.keys.add(key_of(whole))


class JsonWatch:
    """Follows bytes. `heads` are the texts behind which a document begins, with their schemas; an empty one begins it
    at once."""

    def __init__(self, heads: dict[bytes, Schema]) -> None:
        self._heads = heads
        self._lasts = frozenset(head[-1] for head in heads if head)
        self._schema: Schema | None = heads.get(b"")
        self.text = bytearray()
        self.frames: list[Frame] = []
        self._quoted = self._escaped = self._scalar = False

    def copied(self) -> JsonWatch:
        """One that goes on by itself."""
        twin = copy.copy(self)
        twin.text = bytearray(self.text)
        twin.frames = [frame.copied() for frame in self.frames]
        return twin

    @property
    def writing(self) -> bool:
        """Inside a document, or where one begins."""
        return self._schema is not None

    @property
    def within_text(self) -> bool:
        """Inside a string."""
        return self._quoted

    def feed(self, data: bytes) -> None:
        """What is written next."""
        if not self.text and data.startswith(b"<"):  # a call, where there may be calls
            self._schema = None
        for byte in data:
            if self._schema is None:
                self._look_for_head(byte)
            else:
                self._take(byte)

    def _look_for_head(self, byte: int) -> None:
        self.text.append(byte)
        if byte in self._lasts:
            found = max((head for head in self._heads if head and self.text.endswith(head)), key=len, default=b"")
            self._schema = self._heads[found] if found else None

    def _take(self, byte: int) -> None:
        at = len(self.text)
        self.text.append(byte)
        if self._quoted:
            if self._escaped:
                self._escaped = False
            elif byte == 0x5C:
                self._escaped = True
            elif byte == 0x22:
                self._quoted = False
                self._ended(at + 1)
            return
        if self._scalar and (byte in b",}]" or byte in SPACE):
            self._scalar = False
            self._ended(at)
        if byte == 0x22:
            self._began(at)
            self._quoted = True
        elif byte in OPENING:
            self._open(at, array=byte == 0x5B)
        elif byte in CLOSING and self.frames:
            self.frames.pop()
            self._ended(at + 1)
        elif byte == 0x2C and self.frames:
            self.frames[-1].naming = True
        elif byte == 0x3A and self.frames:
            self.frames[-1].naming = False
        elif byte not in SPACE and not self._scalar and byte != 0x2C:
            self._began(at)
            self._scalar = True

    def _began(self, at: int) -> None:
        if self.frames and (self.frames[-1].array or self.frames[-1].naming):
            self.frames[-1].start = at

    def _open(self, at: int, *, array: bool) -> None:
        assert self._schema is not None
        self._began(at)
        nodes = self._inner(self.frames[-1]) if self.frames else expanded([self._schema], self._schema)
        mark = DISTINCT_ITEMS if array else DISTINCT_NAMES
        self.frames.append(Frame(array, nodes, any(mark in node for node in nodes)))

    def _inner(self, frame: Frame) -> list[Schema]:
        assert self._schema is not None
        found: list[Any] = []
        for node in frame.nodes:
            found += items_of(node, frame.index) if frame.array else members_of(node, frame.key)
        return expanded(found, self._schema)

    def _ended(self, end: int) -> None:
        """A value, or a name, is whole."""
        if not self.frames:
            self._schema = None
            return
        frame = self.frames[-1]
        if frame.start is not None:
            whole = bytes(self.text[frame.start : end])
            if frame.distinct:
                frame.put(whole)
            if not frame.array:
                frame.key = name_of(whole)
            frame.start = None
        frame.index += frame.array


def name_of(text: bytes) -> str:
    """A member's name; an empty one for what is no text."""
    try:
        return str(json.loads(text))
    except ValueError:
        return ""


def key_of(text: bytes) -> str | None:
    """Equal for texts of equal values; None for what is no document."""
    try:
        return as_key(json.loads(text))
    except (ValueError, RecursionError):
        return None


def items_of(node: Schema, index: int) -> list[Any]:
    """The schemas of an array's item."""
    first = node.get("prefixItems", [])
    return [first[index]] if index < len(first) else [node.get("items")]


def members_of(node: Schema, name: str) -> list[Any]:
    """The schemas that may hold for an object's member."""
    if name in node.get("properties", {}):
        return [node["properties"][name], *node.get("patternProperties", {}).values()]
    return [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]


def expanded(schemas: Iterable[Any], root: Schema) -> list[Schema]:
    """Schemas with all that they are composed of or refer to, each once."""
    found: dict[int, Schema] = {}
    pending = list(schemas)
    while pending:
        schema = pending.pop()
        if not isinstance(schema, dict) or id(schema) in found:
            continue
        found[id(schema)] = schema
        pending += [*schema.get("allOf", ()), *schema.get("anyOf", ())]
        if "$ref" in schema:
            pending.append(root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2]))
    return list(found.values())


def watches(schema: Any) -> bool:
    """Whether there is anything in a schema that must be watched."""
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            if DISTINCT_ITEMS in part or DISTINCT_NAMES in part:
                return True
            pending += [inner for name, inner in part.items() if name not in ("enum", "const")]
        elif isinstance(part, list):
            pending += part
    return False
