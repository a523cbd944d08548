from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.parsing.json_schema_refs import check_references

TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}


def _chain(length: int, end: dict[str, Any]) -> dict[str, Any]:
    """A schema whose first reference leads over others to `end`."""
    links = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{length}": end}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        TREE,
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": TREE}},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"allOf": [{"type": "string"}]}}},
        {"items": [{"type": "string"}, {"$ref": "#/items/0"}]},
        {"enum": [{"$ref": "#"}], "const": {"$ref": "#"}, "default": {"$ref": "#"}},
        {"properties": {"$ref": {"type": "string"}}},
        {"$ref": 5},
        {"$ref": "#/nowhere"},
        {"$ref": "#/a/b", "a": [1]},
        {"$ref": "http://example.com/#"},
        {"$ref": "#/$defs/a~1b~0c%20d", "$defs": {"a/b~c d": {"type": "string"}}},
        {"allOf": {"$ref": "#"}, "anyOf": None},
        _chain(5000, {"type": "string"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_references_that_end_somewhere_are_fine(schema: dict[str, Any]) -> None:
    check_references(schema, "p")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"allOf": [{"type": "object"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#/anyOf/0"}]},
        {"oneOf": [{"allOf": [{"$ref": "#"}]}]},
        {"$ref": "#/a~1b", "a/b": {"$ref": "#/a~1b"}},
        {"items": [{"$ref": "#/items/1"}, {"$ref": "#/items/0"}]},
    ],
    ids=lambda value: str(value)[:60],
)
def test_references_that_lead_back_to_themselves_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="leads back to itself") as caught:
        check_references(schema, "p")
    assert caught.value.param == "p"


def test_a_long_loop_is_found() -> None:
    with pytest.raises(InvalidRequest):
        check_references(_chain(5000, {"$ref": "#/$defs/d7"}), "p")


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_many_references_to_one_place_are_quickly_checked(keyword: str) -> None:
    doubling = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    check_references({"$ref": "#/$defs/d0", "$defs": {**doubling, "d40": {"type": "string"}}}, "p")
    with pytest.raises(InvalidRequest):
        check_references({"$ref": "#/$defs/d0", "$defs": {**doubling, "d40": {"$ref": "#/$defs/d0"}}}, "p")
