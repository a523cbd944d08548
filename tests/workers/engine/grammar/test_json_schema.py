"""What clients' schemas become: all that a grammar allows is valid, and nothing ordinary is refused."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import jsonschema
import pytest
from support.inputs.walks import bits, matcher_of, takes, written

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.workers.engine.grammar.json_schema import enforceable
from mlx_server.workers.engine.grammar.schema_patterns import FORMATS

Schema = dict[str, Any]
INTEGER: Schema = {"type": "integer"}
STRING: Schema = {"type": "string"}


OPEN: Schema = {"type": "object"}
CLOSED: Schema = {"type": "object", "properties": {"a": {}, "b": {}}, "additionalProperties": False}


def tagged(name: str) -> Schema:
    """A member of a union whose tag has a default, so that it need not be there."""
    return {"type": "object", "properties": {"k": {"const": name, "default": name}, name: INTEGER}}


CASES: dict[str, tuple[Schema, list[Any], list[Any]]] = {
    "annotations": ({"$comment": "c", "title": "t", "x-a": 1, "foo": {"bar": []}, "format": "password"}, ["a", 1], []),
    "nulls": ({"type": "string", "pattern": None, "maxLength": None}, ["a"], [1]),
    "unknown dialect": ({"$schema": "https://example.com/dialect", "type": "string"}, ["a"], [1]),
    "a library's option": ({"type": "integer", "x-guidance": {"lenient": True}, "minimum": 2}, [2], [1]),
    "names of strings": ({"type": "object", "propertyNames": {"type": "string"}}, [{"a": 1}], [[]]),
    "names of a list": (
        {"propertyNames": {"enum": ["a", "b"]}, "additionalProperties": INTEGER},
        [{"a": 1}, {"a": 1, "b": 2}],
        [{"c": 1}, {"a": "x"}],
    ),
    "names of a pattern": ({"type": "object", "propertyNames": {"pattern": "^a"}}, [{"ab": 1}], [{"b": 1}]),
    "names of a length": ({"type": "object", "propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    "names of IPv4 addresses": (
        {"propertyNames": {"format": "ipv4"}, "additionalProperties": INTEGER, **OPEN},
        [{"127.0.0.1": 1}, {}],
        [{"a": 1}, {"1.2.3": 1}, {"1.2.3.256": 1}, {"1.2.3.4": "x"}],
    ),
    "names of IPv6 addresses": (
        {"propertyNames": {"format": "ipv6"}, **OPEN},
        [{"::1": 1}, {"fe80::1:2": 1}, {"1:2:3:4:5:6:7:8": 1}, {"1::": 1}, {"::": 1}],
        [{"1:2": 1}, {"1:2:3:4:5:6:7:8:9": 1}, {"1::2::3": 1}, {"12345::": 1}],
    ),
    "names of mail addresses": (
        {"propertyNames": {"type": "string", "format": "email"}, **OPEN},
        [{"ann.lee@mail.example.com": 1}],
        [{"ann": 1}],
    ),
    "names of hosts": (
        {"propertyNames": {"format": "hostname"}, **OPEN},
        [{"localhost": 1}, {"a-1.example.com": 1}],
        [{"a b": 1}, {"a..b": 1}, {"-a.com": 1}],
    ),
    "names of addresses": (
        {"propertyNames": {"format": "uri"}, **OPEN},
        [{"https://example.com:80/a/b?c=d#e": 1}, {"urn:a:b": 1}],
        [{"a b": 1}, {"example.com": 1}, {"https://a:b": 1}, {"a:%2": 1}],
    ),
    "no names": ({"type": "object", "propertyNames": False}, [{}], [{"a": 1}]),
    "least of all": ({"type": "object", "minProperties": 2}, [{"a": 1, "b": 1}], [{"a": 1}]),
    "least of all beside items": (
        {"type": ["array", "object"], "minProperties": 2, "items": {"type": "boolean"}, "minItems": 3},
        [[True, True, False], {"a": 1, "b": 1}],
        [[True, True], {"a": 1}],
    ),
    "distinct items beside names": (
        {"type": ["array", "object"], "uniqueItems": True},
        [[True, False], {"a": 1, "b": 1}],
        [[True, True]],
    ),
    "least of some": ({**CLOSED, "minProperties": 1}, [{"a": 1}, {"a": 1, "b": 2}, {"b": 1}], [{}]),
    "most of some": ({**CLOSED, "maxProperties": 1}, [{}, {"a": 1}, {"b": 1}], [{"a": 1, "b": 2}]),
    "dependent names": ({"type": "object", "dependentRequired": {"a": ["b"]}}, [{}, {"b": 1}], [{"a": 1}]),
    "dependent schemas": ({"dependentSchemas": {"a": {"required": ["b"]}}, **OPEN}, [{"b": 1}, {}], [{"a": 1}]),
    "draft 7's": ({"type": "object", "dependencies": {"a": {"required": ["b"]}}}, [{"b": 1}], [{"a": 1}]),
    "unevaluated": (
        {"allOf": [{"properties": {"a": INTEGER}}], "type": "object", "unevaluatedProperties": False},
        [{"a": 1}, {}],
        [{"b": 1}],
    ),
    "distinct strings": (
        {"type": "array", "items": STRING, "uniqueItems": True},
        [["a", "aa", "b"]],
        [["b", "a", "b"]],
    ),
    "distinct numbers": ({"items": {"type": "number"}, "uniqueItems": True}, [[1, 10, 2.5]], [[1, 1.0], [2, 3, 2]]),
    "distinct values": ({"items": {"enum": [1, 2, 3]}, "uniqueItems": True, "type": "array"}, [[3, 1], []], [[1, 1]]),
    "distinct objects": (
        {"uniqueItems": True},
        [[{"a": 1, "b": 2}, {"b": 1}], [[1], [1, 2]]],
        [[{"a": 1, "b": 2}, {"b": 2, "a": 1}], [[1], [1]]],
    ),
    "distinct rest": (
        {"type": "array", "uniqueItems": True, "unevaluatedItems": {"type": "string"}},
        [["a", "b"], []],
        [["a", "a"], [1]],
    ),
    "distinct rest of values": (
        {"type": "array", "uniqueItems": True, "unevaluatedItems": {"enum": [1, 2]}},
        [[1, 2], [2]],
        [[1, 1], [3]],
    ),
    "not distinct": ({"type": "array", "items": INTEGER, "uniqueItems": False}, [[1, 1]], []),
    "contains": ({"type": "array", "contains": {"const": 1}, "maxItems": 3}, [[1], [0, 0, 1]], [[0, 0], []]),
    "contains nothing": ({"type": "array", "contains": {"const": 1}, "minContains": 0}, [[0], []], []),
    "a tuple": (
        {"type": "array", "prefixItems": [INTEGER, STRING], "items": False},
        [[1, "a"]],
        [[1, "a", 1], ["a"]],
    ),
    "an old tuple": ({"type": "array", "items": [INTEGER], "additionalItems": False}, [[1]], [["a"], [1, 1]]),
    "old bounds": ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, [2], [1]),
    "far bounds": ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, [5, -5], [2**63]),
    "farther bounds": ({"type": "number", "minimum": -1.7e308, "maximum": 1.7e308}, [5, -5.5], []),
    "not that type": ({"type": ["string", "integer"], "not": {"type": "string"}}, [1], ["a"]),
    "not that value": ({"enum": [1, 2, 3], "not": {"const": 2}}, [1, 3], [2]),
    "not that property": ({"type": "object", "not": {"required": ["a"]}}, [{"b": 1}], [{"a": 1}]),
    "never": ({"type": "object", "properties": {"a": {"not": {}}}}, [{"b": 1}], [{"a": 1}]),
    "a condition": (
        {
            "type": "object",
            "properties": {"k": {"enum": ["a", "b"]}, "n": INTEGER},
            "required": ["k"],
            "if": {"properties": {"k": {"const": "a"}}},
            "then": {"required": ["n"]},
        },
        [{"k": "a", "n": 1}, {"k": "b"}],
        [{"k": "a"}],
    ),
    "one of types": ({"oneOf": [STRING, INTEGER]}, ["a", 1], [None]),
    "one of values": ({"oneOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}, [1, 3], [2]),
    "one of ranges": ({"type": "integer", "oneOf": [{"maximum": 3}, {"minimum": 4}]}, [3, 4], []),
    "one of tagged": (
        {"oneOf": [tagged("a"), tagged("b")]},
        [{"k": "a"}, {"k": "b", "b": 1}],
        [{"k": "c"}, {}, {"k": "a", "a": "x"}],
    ),
    "any of tagged": (
        {"anyOf": [tagged("a"), tagged("b"), {"type": "null"}]},
        [{"k": "a"}, None],
        [{"k": "c"}, {"k": "a", "a": "x"}],
    ),
    "one of names": (
        {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": 1}],
        [{}, {"a": 1, "b": 1}],
    ),
    "a reference by name": ({"$ref": "#x", "$defs": {"A": {"$anchor": "x", "type": "integer"}}}, [1], ["a"]),
    "a reference with brackets": ({"$ref": "#/$defs/A[int]", "$defs": {"A[int]": INTEGER}}, [1], ["a"]),
    "a reference by id": ({"$ref": "a.json", "$defs": {"a": {"$id": "a.json", "type": "integer"}}}, [1], ["a"]),
    "within a resource": (
        {"$ref": "a", "$defs": {"a": {"$id": "a", "$ref": "#/$defs/b", "$defs": {"b": INTEGER}}}},
        [1],
        ["a"],
    ),
    "a reference that adds": ({"$ref": "#/$defs/a", "maximum": 3, "$defs": {"a": INTEGER}}, [3], [4]),
    "a dynamic reference": (
        {"$dynamicAnchor": "n", "properties": {"a": {"$dynamicRef": "#n"}}, "additionalProperties": False, **OPEN},
        [{"a": {}}],
        [{"a": 1}],
    ),
    "signs in a class": ({"type": "string", "pattern": r"^[a&&b[\_\@]+$"}, ["a&&b[_@"], ["c"]),
    "braces": ({"type": "string", "pattern": r"^{a}\p{L}$"}, ["{a}b"], ["a"]),
    "ahead": ({"type": "string", "pattern": r"^(?=.*\d)(?=.*[A-Z]).{3,}$"}, ["aB1"], ["ab1", "B1"]),
    "not ahead": ({"type": "string", "pattern": r"^(?!ab)(?!.*\.\.)[a-z.]+$"}, ["ba.b.", "a"], ["abc", "b..", "a..b"]),
    "not these words": (
        {"type": "string", "pattern": r"^(?!(?:con|nul)$)[a-z]+$"},
        ["conn", "co", "x", "nula"],
        ["con", "nul"],
    ),
    "not these two": ({"type": "string", "pattern": r"^(?!.*ab).+$"}, ["ba", "aaa", "acb"], ["ab", "aab", "xabx"]),
    "pydantic's decimal": (
        {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*(?:\d{0,6}|(?=[\d.]{1,9}0*$)\d{0,6}\.\d{0,2}0*)$"},
        ["1.25", "+.5", "123456.78", "1.2300", "007"],
        ["-", ".", "1234567", "1.234"],
    ),
    "pydantic's number": (
        {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
        ["1.25", "0."],
        ["-", "+.", "1.2.3"],
    ),
}

FOREIGN = ("nulls", "unknown dialect", "an old tuple", "old bounds", "braces", "draft 7's", "signs in a class")
FOREIGN += ("names of hosts", "names of addresses")
"""What the validator can't read, or knows in older drafts only."""

CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


@pytest.mark.parametrize("name", CASES)
def test_what_is_allowed_is_what_is_valid(name: str) -> None:
    schema, good, bad = CASES[name]
    matcher = matcher_of(schema)
    assert [each for each in good if not takes(matcher, each)] == []
    assert [each for each in bad if takes(matcher, each)] == []
    if name not in FOREIGN:
        validator = jsonschema.Draft202012Validator(schema, format_checker=CHECKER)
        assert all(validator.is_valid(each) for each in good)
        assert not any(validator.is_valid(each) for each in bad if name != "one of tagged")


@pytest.mark.parametrize("name", sorted(CASES.keys() - FOREIGN))
def test_what_is_written_at_random_is_valid(name: str) -> None:
    schema = CASES[name][0]
    matcher = matcher_of(schema)
    texts = [text for seed in range(5) if (text := written(matcher, seed, 300)) is not None]
    for text in texts:
        jsonschema.validate(json.loads(text), schema, format_checker=CHECKER)


DOZEN = [*"abcdefgh", 1, None, {"a": 1}, [1, 2]]
DISTINCT: dict[str, Schema] = {
    "letters": {"type": "array", "items": {"type": "string", "maxLength": 1, "pattern": "^[abc]"}, "minItems": 2},
    "codes": {"type": "array", "items": {"type": "string", "pattern": "^(USD|USA|EUR)$"}, "minItems": 2, "maxItems": 3},
    "integers": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 30}, "minItems": 4},
    "values": {"type": "array", "items": {"enum": list("abcdef")}, "minItems": 3},
    "a dozen values": {"type": "array", "items": {"enum": DOZEN}, "minItems": 12, "maxItems": 12},
    "some of a dozen": {"type": "array", "items": {"enum": DOZEN}},
    "anything": {"type": "array", "minItems": 3},
    "objects": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 3}},
            "required": ["a"],
            "additionalProperties": False,
        },
        "minItems": 3,
        "maxItems": 4,
    },
    "arrays": {"type": "array", "items": {"type": "array", "items": {"enum": [1, "a"]}, "maxItems": 2}, "maxItems": 5},
}


@pytest.mark.parametrize("name", DISTINCT)
def test_distinct_items_come_to_their_end(name: str) -> None:
    schema = {**DISTINCT[name], "uniqueItems": True}
    matcher = matcher_of(schema)
    texts = [text for seed in range(12) if (text := written(matcher, seed, 400)) is not None]
    assert len(texts) >= 8
    for text in texts:
        jsonschema.validate(json.loads(text), schema)


def test_distinct_items_come_to_the_last_that_there_is() -> None:
    schema = {"items": {"type": "integer", "minimum": 0, "maximum": 150}, "type": "array", "uniqueItems": True}
    text = written(matcher_of({**schema, "minItems": 151}), 0, 1000)
    assert text is not None
    assert sorted(json.loads(text)) == list(range(151))


def test_an_item_beside_a_thousand_others_is_begun_soon() -> None:
    matcher = matcher_of({"type": "array", "items": STRING, "uniqueItems": True})
    items = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()[:12] for i in range(1000)]
    for byte in f'{json.dumps(items)[:-1]}, "'.encode():
        assert matcher.consume_token(byte)
    began = time.process_time()
    allowed = bits(matcher)
    assert time.process_time() - began < 0.06
    assert allowed[ord("a")]
    assert all(matcher.consume_token(byte) for byte in items[500].encode())
    assert not bits(matcher)[ord('"')]


REFUSED: list[tuple[Schema, str, str]] = [
    ({"properties": {"a": {"type": "strin"}}}, "p.properties.a.type", "no type"),
    ({"items": {"contains": {}}}, "p.items.contains", "`maxItems`"),
    ({"minContains": 2, "contains": {}}, "p.minContains", "`prefixItems`"),
    ({"anyOf": [{"not": {"minLength": 2}}]}, "p.anyOf[0].not", "say what is allowed"),
    ({"if": {"minLength": 2}, "then": {"maxLength": 3}}, "p.if", "`anyOf`"),
    ({"oneOf": [{"minLength": 2}, {"maxLength": 3}]}, "p.oneOf", "`anyOf`"),
    ({"pattern": r"a(?<=b)c"}, "p.pattern", "look-around"),
    ({"pattern": r"^a(?=b)|^(?!c)d"}, "p.pattern", "look-around"),
    ({"pattern": "^" + "(?=a)" * 4000 + "a$"}, "p.pattern", "more than 32 look-aheads"),
    ({"pattern": "^(?!" + "(?:" * 900 + "a" + ")" * 900 + ")a$"}, "p.pattern", "more than 8 deep"),
    ({"patternProperties": {"^(?!.*(a).*\\1)b": {}}}, "p.patternProperties.^(?!.*(a).*\\1)b", "look-around"),
    ({"$ref": "https://example.com/other"}, "p.$ref", "`$defs`"),
    ({"required": "a"}, "p.required", "list"),
    ({"minimum": "a"}, "p.minimum", "number"),
    ({"maxLength": -1}, "p.maxLength", "whole number"),
    ({"anyOf": []}, "p.anyOf", "list"),
    ({"properties": []}, "p.properties", "object"),
    ({"properties": {"a": 1}}, "p.properties.a", "a schema is"),
    ({"anyOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}, "p.unevaluatedProperties", "each"),
    ({"properties": {"a": {}}, "minProperties": 3}, "p.minProperties", "`required`"),
]


@pytest.mark.parametrize(("schema", "path", "reason"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_is_left_over_is_refused_or_told(schema: Schema, path: str, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest) as refusal:
        enforceable(schema, "p", guaranteed=True)
    assert time.process_time() - began < 0.5
    assert refusal.value.param == path
    assert refusal.value.message.startswith(f"`{path}` can't be guaranteed: ")
    assert reason in refusal.value.message
    assert enforceable(schema, "p", guaranteed=False).ignored == (path,)
    written(matcher_of(schema, guaranteed=False), 1, 50)


def test_a_schema_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(InvalidRequest, match="too complex"):
        enforceable({"anyOf": [{"const": number} for number in range(30_000)]}, "p", guaranteed=True)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "maximum": 10**400},
        {"type": "array", "maxItems": 10**400},
        {"oneOf": [{"enum": [10**400]}, {"minimum": 10**400}]},
        json.loads('{"items":' * 900 + "{}" + "}" * 900),
    ],
    ids=["maximum", "maxItems", "values", "depth"],
)
def test_numbers_and_depths_beyond_what_is_computed_with_are_refused(schema: Schema) -> None:
    for guaranteed in (True, False):
        with pytest.raises(InvalidRequest, match="too complex"):
            enforceable(schema, "p", guaranteed=guaranteed)


def test_lists_of_values_are_compared_for_a_bounded_time() -> None:
    lengths = [{"type": "string", "minLength": length} for length in range(640)]
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="too complex"):
        enforceable({"oneOf": [{"anyOf": lengths}, {"enum": list(range(7000))}]}, "p", guaranteed=True)
    assert enforceable({"oneOf": [{"enum": list(range(9000))}, {"enum": [1]}]}, "p", guaranteed=True)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_are_what_the_validator_takes(kind: str) -> None:
    schema = {"type": "string", "format": kind}
    matcher = matcher_of(schema)
    for seed in range(6):
        text = written(matcher, seed, 200)
        if text is not None:
            jsonschema.validate(json.loads(text), schema, format_checker=CHECKER)
