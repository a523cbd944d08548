"""Models as people write them in pydantic and zod: what is written for them is valid, and parses."""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import uuid
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field
from support.inputs.walks import matcher_of, written

Short = Annotated[str, Field(max_length=4)]
Digit = Annotated[int, Field(ge=0, le=9)]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Digit


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: Short


class Node(BaseModel):
    value: Digit
    children: Annotated[list[Node], Field(max_length=1)]


class Sets(BaseModel):
    words: Annotated[set[Short], Field(max_length=3)]
    numbers: Annotated[frozenset[Digit], Field(max_length=3)]
    colours: set[Colour]
    flags: set[bool]


class Texts(BaseModel):
    path: pathlib.Path
    secret: pydantic.SecretStr
    raw: Annotated[bytes, Field(max_length=4)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Encoded(BaseModel):
    data: pydantic.Base64Bytes


class Price(BaseModel):
    amount: Annotated[decimal.Decimal, Field(gt=0, le=100, decimal_places=2)] | None


class Dictionaries(BaseModel):
    literal: dict[Literal["a", "b"], Digit]
    matched: dict[Annotated[str, Field(pattern="^x[a-c]$")], bool]
    free: Annotated[dict[Short, Digit], Field(min_length=1, max_length=2)]


class Keyed(BaseModel):
    by_id: Annotated[dict[uuid.UUID, bool], Field(max_length=1)]
    by_day: Annotated[dict[datetime.date, bool], Field(max_length=1)]
    by_colour: dict[Colour, bool]


class Tagged(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Times(BaseModel):
    at: datetime.datetime
    day: datetime.date
    hour: datetime.time


class Lasting(BaseModel):
    takes: datetime.timedelta


class Addresses(BaseModel):
    id: uuid.UUID
    version: pydantic.UUID4
    host: ipaddress.IPv4Address
    other: ipaddress.IPv6Address


class Shapes(BaseModel):
    pair: tuple[Digit, Short]
    many: Annotated[tuple[Digit, ...], Field(max_length=2)]
    either: Literal[1, "one", None]
    union: Digit | Short | None = None
    colour: Colour = Colour.RED
    half: Annotated[float, Field(multiple_of=0.5, ge=0, le=3)]
    tags: Annotated[list[Short], Field(min_length=1, max_length=2)]


MODELS: list[type[BaseModel]] = [
    Sets, Texts, Encoded, Price, Dictionaries, Keyed, Tagged, Times, Lasting, Addresses, Shapes, Node,
]  # fmt: skip


UNSAID = ((Price, "own"), (Price, "openai"), (Dictionaries, "own"))
"""Their schemas allow what the models refuse: any text for a decimal, other names than those of the pattern."""


@pytest.mark.parametrize("spelling", ["own", "openai"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_documents_parse_with_their_model(model: type[BaseModel], spelling: str) -> None:
    schema = model.model_json_schema() if spelling == "own" else to_strict_json_schema(model)
    if spelling == "own" and "properties" in schema:
        schema = {**schema, "additionalProperties": False}
    matcher = matcher_of(schema)
    finished = 0
    for seed in range(10):
        if (text := written(matcher, seed, 1500)) is None:
            continue
        finished += 1
        jsonschema.validate(json.loads(text), schema)
        if (model, spelling) not in UNSAID:
            model.model_validate_json(text)
    assert finished >= 5


DATE = r"(?:\d\d[2468][048]-02-29|\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:02)-(?:0[1-9]|1\d|2[0-8])))"
ZOD: dict[str, dict[str, Any]] = {
    "record": {"propertyNames": {"type": "string", "enum": ["a", "b"]}, "additionalProperties": {"type": "boolean"}}
    | {"type": "object", "required": ["a", "b"]},
    "partial record": {"propertyNames": {"type": "string", "enum": ["a", "b"]}, "type": "object"}
    | {"additionalProperties": {"type": "boolean"}},
    "matched record": {"propertyNames": {"type": "string", "pattern": "^x"}, "type": "object", "maxProperties": 2}
    | {"additionalProperties": {"type": "boolean"}},
    "tuple": {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": False}
    | {"minItems": 2, "maxItems": 2},
    "discriminated union": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"type": "string", "const": "a"}}, "required": ["k"]}
            | {"additionalProperties": False},
            {"type": "object", "properties": {"k": {"default": "b", "type": "string", "const": "b"}}}
            | {"additionalProperties": False},
        ]
    },
    "either": {"oneOf": [{"type": "boolean"}, {"type": "null"}]},
    "never": {"type": "object", "properties": {"a": {"not": {}}}, "additionalProperties": False},
    "integer": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
    "float": {"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38},
    "date": {"type": "string", "format": "date", "pattern": f"^{DATE}$"},
    "date and time": {
        "type": "string",
        "format": "date-time",
        "pattern": rf"^{DATE}T(?:(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?(?:Z))$",
    },
    "time": {"type": "string", "pattern": r"^(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?$"},
    "duration": {
        "type": "string",
        "format": "duration",
        "pattern": r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$",
    },
    "email": {
        "type": "string",
        "format": "email",
        "pattern": r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
    },
    "host name": {
        "type": "string",
        "format": "hostname",
        "pattern": r"^(?=.{1,253}\.?$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-0-9a-z]{0,61})?)*\.?$",
    },
    "base64": {
        "type": "string",
        "format": "base64",
        "contentEncoding": "base64",
        "pattern": "^$|^(?:[0-9a-zA-Z+/]{4})*(?:(?:[0-9a-zA-Z+/]{2}==)|(?:[0-9a-zA-Z+/]{3}=))?$",
    },
    "network": {"type": "string", "format": "cidrv4", "pattern": r"^((25[0-5]|[1-9][0-9])\.){3}([0-9])\/([0-9])$"},
    "parts": {"type": "string", "maxLength": 4, "allOf": [{"pattern": "^a.*"}, {"pattern": ".*b$"}]},
    "recursive": {
        "type": "object",
        "properties": {"v": {"type": "boolean"}, "kids": {"type": "array", "items": {"$ref": "#"}, "maxItems": 1}},
        "required": ["v", "kids"],
        "additionalProperties": False,
    },
}
"""What zod 3 and 4 make of their own kinds."""


@pytest.mark.parametrize("name", ZOD)
def test_what_zod_asks_for_is_written(name: str) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **ZOD[name]}
    matcher = matcher_of(schema)
    texts = [text for seed in range(8) if (text := written(matcher, seed, 800)) is not None]
    assert texts
    for text in texts:
        if name != "discriminated union" or json.loads(text):
            jsonschema.validate(json.loads(text), schema)
