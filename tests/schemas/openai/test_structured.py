"""What an answer must be: OpenAI's `response_format`, vLLM's and others' spellings."""

import json
from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Grammar
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.openai.structured import ANY_OBJECT, MAX_GRAMMAR_CHARS, MAX_OPTIONS
from mlx_server.schemas.parsing.parse import parse

SCHEMA = {"type": "object", "properties": {"ü": {"enum": ["a", None, 1.5]}}}
TEXT = '{"type":"object","properties":{"ü":{"enum":["a",null,1.5]}}}'
LARK = 'start: "a" | "b"'
GBNF = 'root ::= "a" | "b"'


def _grammar(fields: dict[str, Any]) -> Grammar | None:
    """The same of both kinds of completion."""
    chat = json.dumps({"messages": [{"role": "user", "content": "a"}], **fields}).encode()
    text = json.dumps({"prompt": "a", **fields}).encode()
    found = parse(chat, openai_chat.decoder, HARMLESS)[0].to_generation(8).grammar
    assert parse(text, openai_completions.decoder, HARMLESS)[0].to_generation(8).grammar == found
    return found


def _format(**json_schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


@pytest.mark.parametrize(
    ("fields", "kind", "text", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "json_schema", ANY_OBJECT, "response_format"),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "json_schema", TEXT, "response_format.schema"),
        (_format(name="n", schema=SCHEMA), "json_schema", TEXT, "response_format.json_schema.schema"),
        (
            _format(name="n", description="d", schema=SCHEMA, strict=False),
            "json_schema",
            TEXT,
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", TEXT, "structured_outputs.json"),
        ({"structured_outputs": {"json": TEXT}}, "json_schema", TEXT, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+", "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", '["a","b"]', "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": LARK}}, "lark", LARK, "structured_outputs.grammar"),
        ({"structured_outputs": {"json_object": True}}, "json_schema", ANY_OBJECT, "structured_outputs.json_object"),
        ({"regex": "[0-9]"}, "regex", "[0-9]", "regex"),
        ({"grammar": LARK}, "lark", LARK, "grammar"),
        ({"grammar": GBNF}, "gbnf", GBNF, "grammar"),
        ({"choice": ["ja", "nein"]}, "choice", '["ja","nein"]', "choice"),
        ({"guided_json": SCHEMA}, "json_schema", TEXT, "guided_json"),
        ({"guided_json": " " + TEXT}, "json_schema", TEXT, "guided_json"),
        ({"guided_regex": "a"}, "regex", "a", "guided_regex"),
        ({"guided_grammar": GBNF}, "gbnf", GBNF, "guided_grammar"),
        ({"guided_choice": ["a"]}, "choice", '["a"]', "guided_choice"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_every_spelling_gives_its_grammar(fields: dict[str, Any], kind: Any, text: str, param: str) -> None:
    assert _grammar(fields) == Grammar(kind, text, param, guaranteed=param != "response_format.schema")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "text", "json_schema": None}},
        {"structured_outputs": None, "regex": None, "grammar": None, "choice": None, "guided_json": None},
    ],
    ids=str,
)
def test_no_constraint_is_none(fields: dict[str, Any]) -> None:
    assert _grammar(fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "json_object"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": "{}"}}, "response_format.json_schema"),
        (_format(name="n"), "response_format.json_schema.schema"),
        (_format(schema=[]), "response_format.json_schema.schema"),
        (_format(schema=True), "response_format.json_schema.schema"),
        (_format(schema={}, strict="yes"), "response_format.json_schema.strict"),
        ({"response_format": {"type": "text", "json_schema": {"schema": {}}}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "schema": {}}}, "response_format.schema"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs"),
        ({"structured_outputs": {"more": 1}}, "structured_outputs"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[]"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
        ({"guided_json": ""}, "guided_json"),
        ({"guided_json": "true"}, "guided_json"),
        ({"guided_json": r'{"a": "\ud800"}'}, "guided_json"),
        ({"guided_json": "[" * 5000}, "guided_json"),
        ({"guided_json": '{"a":' * 50_000}, "guided_json"),
        ({"regex": 5}, "regex"),
        ({"regex": "a" * (MAX_GRAMMAR_CHARS + 1)}, "regex"),
        ({"guided_json": {"a": "b" * MAX_GRAMMAR_CHARS}}, "guided_json"),
        ({"choice": []}, "choice"),
        ({"choice": [""]}, "choice"),
        ({"choice": ["a", 1]}, "choice[1]"),
        ({"choice": ["a"] * (MAX_OPTIONS + 1)}, "choice"),
        ({"guided_choice": "a"}, "guided_choice"),
        ({"regex": "a", "guided_regex": "a"}, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "grammar": LARK}, "grammar"),
        ({"guided_json": {}, "guided_choice": ["a"], "regex": "a"}, "guided_json"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_constraint_that_can_not_be_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _grammar(fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
