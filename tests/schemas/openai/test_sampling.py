"""What chat and text completions have in common: sampling, stop strings, stream options."""

import json
from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Limits, Sampling
from mlx_server.schemas.openai import chat as openai_chat
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS, MAX_STOPS
from mlx_server.schemas.parsing.parse import parse

DEFAULT_MAX_TOKENS = 77


def _chat(**fields: Any) -> openai_chat.ChatRequest:
    body = {"messages": [{"role": "user", "content": "Hello"}], **fields}
    return parse(json.dumps(body).encode(), openai_chat.decoder, HARMLESS)[0]


def _generation(**fields: Any) -> GenerationRequest:
    return _chat(**fields).to_generation(DEFAULT_MAX_TOKENS)


def _refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _generation(**fields)
    return caught.value


def test_sampling_is_left_to_the_model_where_the_client_is_silent() -> None:
    generation = _generation()
    assert generation.sampling == Sampling()
    assert generation.sampling.temperature is None
    assert generation.limits == Limits()


def test_sampling_keeps_what_the_client_asked_for() -> None:
    asked = {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 0,
        "min_p": 0.0,
        "seed": 0,
        "repetition_penalty": 1.1,
        "repetition_context_size": 64,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "logit_bias": {"5": -100, "6": "1.5"},
    }
    expected = Sampling(0.0, 0.5, 0, 0.0, 0, 1.1, 64, -2.0, 2.0, {5: -100.0, 6: 1.5})
    assert _generation(**asked).sampling == expected
    completion = parse(json.dumps({"prompt": "a", **asked}).encode(), openai_completions.decoder, HARMLESS)[0]
    assert completion.to_generation(1).sampling == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, DEFAULT_MAX_TOKENS),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": 2**31 - 1}, 2**31 - 1),
    ],
)
def test_max_tokens_has_two_names(fields: dict[str, Any], expected: int) -> None:
    assert _generation(**fields).max_tokens == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _generation(**fields)
    assert caught.value.param == param


def test_max_completion_tokens_is_unknown_to_text_completions() -> None:
    body = b'{"prompt": "a", "max_tokens": 5, "max_completion_tokens": 6}'
    completion, unknown = parse(body, openai_completions.decoder, HARMLESS)
    assert completion.to_generation(1).max_tokens == 5
    assert unknown == ["max_completion_tokens"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"0": 1}, {0: 1.0}),
        ({"5": -100, "6": 100}, {5: -100.0, 6: 100.0}),
        ({"5": "1.5", "6": "-3"}, {5: 1.5, 6: -3.0}),
        ({"999999999": 0.25}, {999999999: 0.25}),
    ],
)
def test_logit_bias_takes_numbers_and_numeric_strings(given: Any, expected: dict[int, float]) -> None:
    assert _generation(logit_bias=given).sampling.logit_bias == expected


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"a": 1}, "a key must be a token id"),
        ({"-1": 1}, "a key must be a token id"),
        ({"1.5": 1}, "a key must be a token id"),
        ({"": 1}, "a key must be a token id"),
        ({"٣": 1}, "a key must be a token id"),
        ({"9999999999": 1}, "a key must be a token id"),
        ({"1": "much"}, "expected a number, got 'much'"),
        ({"1": ""}, "expected a number, got ''"),
        ({"1": 101}, "from -100 to 100"),
        ({"1": -100.5}, "from -100 to 100"),
        ({"1": "nan"}, "from -100 to 100"),
        ({"1": "inf"}, "from -100 to 100"),
    ],
    ids=str,
)
def test_logit_bias_refuses_other_keys_and_values(given: dict[str, Any], what: str) -> None:
    refusal = _refusal(logit_bias=given)
    assert refusal.param == f"logit_bias.{next(iter(given))}"
    assert what in refusal.message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ()),
        ([], ()),
        ("\n", ("\n",)),
        (["a"], ("a",)),
        (["b", "a", "b"], ("b", "a", "b")),
        ([str(n) for n in range(MAX_STOPS)], tuple(str(n) for n in range(MAX_STOPS))),
    ],
)
def test_stop_is_a_string_or_a_list(given: Any, expected: tuple[str, ...]) -> None:
    assert _generation(stop=given).limits.stop == expected


@pytest.mark.parametrize("given", ["", [""], ["a", ""]])
def test_stop_refuses_an_empty_string(given: Any) -> None:
    refusal = _refusal(stop=given)
    assert (refusal.message, refusal.param) == ("`stop`: strings must have 1 to 1000 characters.", "stop")


def test_stop_refuses_too_many() -> None:
    refusal = _refusal(stop=["x"] * (MAX_STOPS + 1))
    assert refusal.param == "stop"
    assert str(MAX_STOPS) in refusal.message
    assert str(MAX_STOPS + 1) in refusal.message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": None}, False),
        ({"stream": True, "stream_options": {}}, False),
        ({"stream": True, "stream_options": {"include_usage": None}}, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
        ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}, True),
        ({"stream": False, "stream_options": None}, False),
    ],
)
def test_include_usage_is_asked_for_in_stream_options(fields: dict[str, Any], expected: bool) -> None:
    assert _chat(**fields).include_usage() is expected


@pytest.mark.parametrize("stream", [None, False])
def test_stream_options_need_a_stream(stream: bool | None) -> None:
    with pytest.raises(InvalidRequest, match="only allowed when `stream` is true") as caught:
        _chat(stream=stream, stream_options={"include_usage": True}).include_usage()
    assert caught.value.param == "stream_options"
