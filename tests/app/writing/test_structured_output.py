"""Answers that must be what was asked for, over HTTP, from a real model."""

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pydantic
import pytest
from jsonschema import Draft202012Validator
from support.inputs.schemas import closed, schemas
from support.running.clients import sdk
from support.running.servers import Server, chat_body

pytestmark = pytest.mark.model

SCHEMAS = schemas()
QUESTION = "Describe a person named Ann, aged 7, who lives in Rome."


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _content(server: Server, **more: Any) -> tuple[str, str]:
    body = chat_body(QUESTION, **{"max_tokens": 200, "temperature": 0, **more})
    answer = server.post("/v1/chat/completions", body, timeout=300)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def test_at_least_fifty_schemas_are_tried() -> None:
    assert len(SCHEMAS) >= 50


def test_every_stop_is_a_valid_document(smollm2_server: Server) -> None:
    names = random.Random(1).sample(sorted(SCHEMAS), 16)

    def ask(name: str) -> tuple[str, str, str]:
        how = {"temperature": 0.8, "seed": len(name), "response_format": _format(SCHEMAS[name])}
        return name, *_content(smollm2_server, **how)

    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(ask, names))
    stopped = [(name, content) for name, content, reason in answers if reason == "stop"]
    for name, content in stopped:
        Draft202012Validator(SCHEMAS[name]).validate(json.loads(content))
    assert len(stopped) >= 0.9 * len(answers)


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    age: int = pydantic.Field(ge=0, le=99)
    tags: list[str] = pydantic.Field(max_length=0)


def test_the_sdk_parses_into_a_pydantic_model(smollm2_server: Server) -> None:
    with sdk(smollm2_server) as client:
        answer = client.beta.chat.completions.parse(
            model="any",
            messages=[{"role": "user", "content": QUESTION}],
            response_format=Person,
            temperature=0,
            max_tokens=60,
        )
    person = answer.choices[0].message.parsed
    assert isinstance(person, Person)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("field", "value", "pattern"),
    [
        ("choice", ["Rome", "Paris"], "Rome|Paris"),
        ("guided_choice", ["Rome", "Paris"], "Rome|Paris"),
        ("regex", "[A-Z][a-z]{2}", "[A-Z][a-z]{2}"),
        ("guided_regex", "[A-Z][a-z]{2}", "[A-Z][a-z]{2}"),
        ("grammar", 'root ::= "a" [bc] "d"', "a[bc]d"),
        ("guided_grammar", 'start: "a" /[bc]/ "d"', "a[bc]d"),
        ("structured_outputs", {"regex": "[0-9]{3}"}, "[0-9]{3}"),
        ("structured_outputs", {"choice": ["x", "y"]}, "x|y"),
        ("structured_outputs", {"json": closed({"n": {"enum": [1, 2]}})}, r'\{"n": [12]\}'),
        ("structured_outputs", {"grammar": 'start: "ok"'}, "ok"),
        ("guided_json", json.dumps(closed({"n": {"const": 1}})), r'\{"n": 1\}'),
        ("response_format", {"type": "json_object", "schema": closed({"n": {"const": 1}})}, r'\{"n": 1\}'),
    ],
)
def test_each_spelling_is_enforced(smollm2_server: Server, field: str, value: Any, pattern: str) -> None:
    content, reason = _content(smollm2_server, **{field: value})
    assert re.fullmatch(pattern, content)
    assert reason == "stop"


def test_json_object_gives_an_object_or_says_that_it_was_cut(smollm2_server: Server) -> None:
    content, reason = _content(smollm2_server, response_format={"type": "json_object"})
    assert content.startswith("{")
    if reason == "stop":
        assert isinstance(json.loads(content), dict)
    else:
        assert reason == "length"


def test_a_document_that_is_cut_off_ends_as_length(smollm2_server: Server) -> None:
    content, reason = _content(smollm2_server, response_format=_format(SCHEMAS["many"]), max_tokens=8)
    assert (content[0], reason) == ("{", "length")
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)


def test_a_constraint_works_streamed_with_everything_else(smollm2_server: Server) -> None:
    fields: dict[str, Any] = {
        "response_format": _format(
            closed(
                {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "maximum": 99, "minimum": 0}}
            )
        ),
        "seed": 5,
        "temperature": 0.9,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.1,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 2,
        "max_tokens": 80,
    }
    whole = smollm2_server.chat(QUESTION, **fields).json()["choices"][0]
    text, tokens, reason = "", [], None
    with sdk(smollm2_server) as client:
        stream = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            extra_body={"repetition_penalty": 1.1},
            **{name: value for name, value in fields.items() if name != "repetition_penalty"},
        )
        for chunk in stream:
            [choice] = chunk.choices
            text += choice.delta.content or ""
            if choice.logprobs:
                tokens += [entry.token for entry in choice.logprobs.content or ()]
            reason = choice.finish_reason or reason
    assert text == whole["message"]["content"]
    assert "".join(tokens) == text
    assert [entry["token"] for entry in whole["logprobs"]["content"]] == tokens
    assert reason == "stop"
    assert set(json.loads(text)) == {"name", "age"}


def test_a_stop_string_ends_a_document_too(smollm2_server: Server) -> None:
    content, reason = _content(smollm2_server, response_format=_format(SCHEMAS["many"]), stop=['"field_1"'])
    assert reason == "stop"
    assert content.startswith('{"field_0": ')
    assert '"field_1"' not in content


def test_neighbours_of_a_constrained_request_say_what_they_always_say(smollm2_server: Server) -> None:
    def plain(question: str) -> str:
        answer = smollm2_server.chat(question, max_tokens=12, temperature=0).json()
        return str(answer["choices"][0]["message"]["content"])

    questions = ["Name three colours.", "What is 2 + 2?", "Who wrote Hamlet?"]
    alone = [plain(question) for question in questions]
    texts = {name: {"type": "string", "minLength": 10, "maxLength": 20} for name in ("name", "city", "work")}
    with ThreadPoolExecutor(4) as clients:
        constrained = clients.submit(_content, smollm2_server, response_format=_format(closed(texts)))
        beside = list(clients.map(plain, questions))
    assert beside == alone
    assert constrained.result()[1] == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": _format({"type": "nonsense"})}, "response_format.json_schema.schema.type"),
        ({"response_format": _format({"$ref": "http://127.0.0.1:1/x"})}, "response_format.json_schema.schema.$ref"),
        ({"guided_json": {"$ref": "#/nowhere"}}, "guided_json.$ref"),
        ({"regex": "("}, "regex"),
        ({"grammar": "start: missing"}, "grammar"),
        ({"guided_json": "{"}, "guided_json"),
        ({"regex": "a", "choice": ["b"]}, "choice"),
        ({"regex": "a+", "min_tokens": 5}, "min_tokens"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"choice": []}, "choice"),
    ],
)
def test_a_constraint_that_cannot_be_kept_is_refused(
    smollm2_server: Server, fields: dict[str, Any], param: str
) -> None:
    with sdk(smollm2_server) as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}], extra_body=fields)
    assert caught.value.param == param
    assert smollm2_server.post("/v1/chat/completions", chat_body("hi", max_tokens=1)).status_code == 200
