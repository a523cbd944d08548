import json
from typing import Any, Literal

import msgspec
import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.parsing.allowed_values import allowed_values
from mlx_server.schemas.parsing.parse import parse

MESSAGES = [{"role": "user", "content": "Hello"}]


def _chat(body: Any) -> openai_chat.ChatRequest:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse(encoded, openai_chat.decoder, HARMLESS)[0]


def _refusal(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _chat(body)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"messages": []}x',
        b"{'messages': []}",
        b'{"messages": [], "seed": NaN}',
        b"\xef\xbb\xbf{}",
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800 alone"}]}',
        b'{"messages": [], "\xff": 1}',
    ],
)
def test_parse_refuses_what_is_not_json(body: bytes) -> None:
    refusal = _refusal(body)
    assert refusal.message.startswith("The body is not valid JSON: ")
    assert refusal.param is None


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"text"', b"true"])
def test_parse_refuses_json_that_is_no_object(body: bytes) -> None:
    refusal = _refusal(body)
    assert refusal.message.startswith("Expected `object`, got ")
    assert refusal.param is None


DEEP = b"[" * 90_000 + b"]" * 90_000


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"messages": ' + DEEP + b"}", id="known"),
        pytest.param(b'{"unheard_of": ' + DEEP + b', "messages": []}', id="unknown"),
        pytest.param(b'{"tools": ' + DEEP + b', "messages": []}', id="unsupported"),
        pytest.param(b'{"metadata": {"a": ' + DEEP + b'}, "messages": []}', id="free-form"),
    ],
)
def test_parse_refuses_deep_nesting(body: bytes) -> None:
    assert _refusal(body).message == "The body is nested too deeply."


@pytest.mark.parametrize(
    ("fields", "param", "what"),
    [
        ({"messages": None}, "messages", "Expected `array`, got `null`"),
        ({"messages": 5}, "messages", "Expected `array`, got `int`"),
        ({"messages": "Hello"}, "messages", "Expected `array`, got `str`"),
        ({"messages": [5]}, "messages[0]", "Expected `object`, got `int`"),
        ({"messages": [{}]}, "messages[0].role", "is missing"),
        ({"messages": [*MESSAGES, {"content": "a"}]}, "messages[1].role", "is missing"),
        ({"messages": [{"role": 1}]}, "messages[0].role", "Expected `str`, got `int`"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "Expected"),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]", "Expected `object`"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0].type", "is missing"),
        ({"model": 5}, "model", "Expected `str | null`, got `int`"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"max_tokens": -5}, "max_tokens", ">= 1"),
        ({"max_tokens": 2**31}, "max_tokens", "<= 2147483647"),
        ({"max_tokens": 2**70}, "max_tokens", "<= 2147483647"),
        ({"max_tokens": 1.5}, "max_tokens", "got `float`"),
        ({"max_tokens": "5"}, "max_tokens", "got `str`"),
        ({"max_tokens": True}, "max_tokens", "got `bool`"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", ">= 1"),
        ({"temperature": -0.1}, "temperature", ">= 0"),
        ({"temperature": 2.1}, "temperature", "<= 2"),
        ({"temperature": "1"}, "temperature", "got `str`"),
        ({"temperature": True}, "temperature", "got `bool`"),
        ({"top_p": -0.1}, "top_p", ">= 0"),
        ({"top_p": 1.1}, "top_p", "<= 1"),
        ({"top_k": -2}, "top_k", ">= -1"),
        ({"top_k": 1.5}, "top_k", "got `float`"),
        ({"min_p": 1.1}, "min_p", "<= 1"),
        ({"seed": 2**63}, "seed", "<= 9223372036854775807"),
        ({"seed": -(2**63) - 1}, "seed", ">= -9223372036854775808"),
        ({"seed": 1.5}, "seed", "got `float`"),
        ({"repetition_penalty": 0}, "repetition_penalty", "> 0"),
        ({"repetition_penalty": -1}, "repetition_penalty", "> 0"),
        ({"repetition_context_size": 0}, "repetition_context_size", ">= 1"),
        ({"presence_penalty": 2.1}, "presence_penalty", "<= 2"),
        ({"frequency_penalty": -2.1}, "frequency_penalty", ">= -2"),
        ({"logit_bias": [1]}, "logit_bias", "Expected `object | null`, got `array`"),
        ({"stop": 5}, "stop", "Expected"),
        ({"stop": [5]}, "stop[0]", "Expected `str`, got `int`"),
        ({"stop": ["a", None]}, "stop[1]", "Expected `str`, got `null`"),
        ({"stream": "yes"}, "stream", "Expected `bool | null`, got `str`"),
        ({"stream": 1}, "stream", "Expected `bool | null`, got `int`"),
        ({"stream_options": True}, "stream_options", "Expected `object | null`"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage", "got `str`"),
        ({"user": 5}, "user", "Expected `str | null`, got `int`"),
        ({"metadata": [1]}, "metadata", "Expected `object | null`, got `array`"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_parse_names_the_field_that_is_wrong(fields: dict[str, Any], param: str, what: str) -> None:
    refusal = _refusal({"messages": MESSAGES, **fields})
    assert refusal.param == param
    assert refusal.message.startswith(f"`{param}`")
    assert what in refusal.message


def test_parse_names_the_field_that_is_missing() -> None:
    refusal = _refusal({"model": "any"})
    assert (refusal.message, refusal.param) == ("`messages` is missing.", "messages")
    with pytest.raises(InvalidRequest, match="`prompt` is missing") as caught:
        parse(b"{}", openai_completions.decoder, HARMLESS)
    assert caught.value.param == "prompt"


def test_parse_names_the_bias_that_has_the_wrong_type() -> None:
    refusal = _refusal({"messages": MESSAGES, "logit_bias": {"5": None}})
    assert refusal.param is not None
    assert refusal.param.startswith("logit_bias")
    assert "got `null`" in refusal.message


def test_parse_takes_null_everywhere_as_not_given() -> None:
    names = set(openai_chat.ChatRequest.__struct_fields__) - {"messages"}
    given = _chat({"messages": MESSAGES, **dict.fromkeys(names | HARMLESS.keys())})
    assert given == _chat({"messages": MESSAGES})


def test_parse_reports_fields_that_nobody_knows() -> None:
    body = {"messages": MESSAGES, "foo": 1, "n": 1, "bar": {"a": []}}
    _, unknown = parse(json.dumps(body).encode(), openai_chat.decoder, HARMLESS)
    assert unknown == ["foo", "bar"]


def test_parse_names_a_harmless_field_that_is_no_number_of_ours() -> None:
    refusal = _refusal(b'{"messages": [{"role": "user", "content": "a"}], "modalities": ' + b"9" * 5000 + b"}")
    assert (refusal.message, refusal.param) == ("`modalities`: Integer value out of range.", "modalities")


def test_parse_takes_the_last_of_fields_given_twice() -> None:
    given = _chat(b'{"messages": [], "messages": [{"role": "user", "content": "second"}]}')
    assert given.messages[0].content == "second"


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(n, v, id=f"{n}-{json.dumps(v)}") for n in HARMLESS for v in (*HARMLESS[n], None)]
)
def test_parse_accepts_values_that_ask_for_nothing(name: str, value: Any) -> None:
    assert _chat({"messages": MESSAGES, name: value}) == _chat({"messages": MESSAGES})


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_parse_refuses_a_parameter_that_it_would_have_to_ignore(name: str) -> None:
    for value in (7, "something", ["something"], {"some": "thing"}, 0.5):
        refusal = _refusal({"messages": MESSAGES, name: value})
        assert (refusal.param, refusal.code) == (name, "unsupported_parameter")
        assert refusal.message.startswith(f"`{name}` is not supported by this server.")
        for harmless in HARMLESS[name]:
            assert json.dumps(harmless, separators=(",", ":")) in refusal.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", True), ("top_logprobs", False), ("logprobs", "0"), ("store", 0), ("reasoning_effort", 1)],
)
def test_parse_does_not_take_one_type_for_another(name: str, value: Any) -> None:
    assert _refusal({"messages": MESSAGES, name: value}).param == name


def test_parse_names_the_first_of_several_unsupported_parameters() -> None:
    unsupported = dict.fromkeys(reversed(HARMLESS), "something")
    for _ in HARMLESS:
        first = next(iter(unsupported))
        assert _refusal({"messages": MESSAGES, **unsupported}).param == first
        del unsupported[first]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("function_call", {"function_call": "extreme"}, "allowed are 'auto', 'none'"),
        ("tool_choice.type", {"tool_choice": {"type": "mcp"}}, "allowed are 'allowed_tools'"),
    ],
)
def test_value_that_is_none_of_a_few_is_refused_with_those(path: str, body: dict[str, Any], message: str) -> None:
    refusal = _refusal({"messages": MESSAGES, **body})
    assert refusal.param == path
    assert message in refusal.message


def test_allowed_values_are_found_in_lists_objects_and_unions() -> None:
    class Leaf(msgspec.Struct):
        kind: Literal["a", "b"] | None = None

    class Tree(msgspec.Struct):
        leaves: list[Leaf | int]
        named: dict[str, Leaf]

    assert allowed_values(Tree, "leaves[0].kind") == ["a", "b"]
    assert allowed_values(Tree, "named[...].kind") == ["a", "b"]
    assert allowed_values(Tree, "leaves[0].other") == []
