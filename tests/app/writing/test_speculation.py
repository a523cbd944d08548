"""Guesses make answers faster, and change nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.running.clients import sdk
from support.running.servers import Server

FILE = '''def area(width, height):
    """The area of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("a side can't be negative")
    return width * height
'''
TASK = f"Repeat this file exactly, with all of its lines:\n\n```python\n{FILE}```"
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "facts",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "name_of_the_function": {"type": "string", "maxLength": 20},
                "number_of_arguments": {"enum": [1, 2, 3]},
                "language": {"const": "python"},
            },
            "required": ["name_of_the_function", "number_of_arguments", "language"],
            "additionalProperties": False,
        },
    },
}


def said(server: Server, **more: Any) -> tuple[str, dict[str, int]]:
    """The answer to the task, and the details of its usage."""
    answer = server.chat(TASK, **{"temperature": 0, "max_tokens": 90, **more})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["choices"][0]["message"]["content"], body["usage"]["completion_tokens_details"]


@pytest.fixture(scope="module")
def greedy(smollm2_server: Server) -> str:
    """The answer without guesses."""
    return said(smollm2_server, speculate="off")[0]


@pytest.mark.model
def test_greedy_answers_are_what_they_are_without_guesses(smollm2_server: Server, greedy: str) -> None:
    guessed, counts = said(smollm2_server, speculate="ngram")
    assert guessed == greedy
    assert counts["accepted_prediction_tokens"] > 0
    assert said(smollm2_server)[0] == greedy


@pytest.mark.model
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"temperature": 0.8, "seed": 3}, id="seed"),
        pytest.param({"presence_penalty": 0.2, "logit_bias": {"28": 1}, "max_tokens": 50}, id="penalties"),
        pytest.param({"stop": ["ValueError"]}, id="stop"),
    ],
)
def test_answers_are_what_they_are_without_guesses(smollm2_server: Server, how: dict[str, Any]) -> None:
    plain, none = said(smollm2_server, speculate="off", **how)
    assert (none["accepted_prediction_tokens"], none["rejected_prediction_tokens"]) == (0, 0)
    guessed, counts = said(smollm2_server, speculate="ngram", **how)
    assert guessed == plain
    assert counts["accepted_prediction_tokens"] > 0
    assert said(smollm2_server, **how)[0] == plain


@pytest.mark.model
def test_what_a_schema_leaves_no_choice_of_is_read_together(smollm2_server: Server) -> None:
    plain, none = said(smollm2_server, speculate="off", response_format=SCHEMA)
    assert (none["accepted_prediction_tokens"], none["rejected_prediction_tokens"]) == (0, 0)
    text, counts = said(smollm2_server, speculate="ngram", response_format=SCHEMA)
    assert text == plain == said(smollm2_server, response_format=SCHEMA)[0]
    assert json.loads(text)["language"] == "python"
    assert counts["accepted_prediction_tokens"] >= 15, "names, quotes and braces"


@pytest.mark.model
def test_a_prediction_by_the_sdk(smollm2_server: Server, greedy: str) -> None:
    with sdk(smollm2_server) as client:
        answer = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": TASK}],
            temperature=0,
            max_tokens=90,
            prediction={"type": "content", "content": greedy},
            extra_body={"speculate": "ngram"},
        )
    assert answer.choices[0].message.content == greedy
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    accepted = answer.usage.completion_tokens_details.accepted_prediction_tokens
    assert accepted is not None
    assert accepted > 0.7 * answer.usage.completion_tokens


@pytest.mark.model
def test_a_model_that_can_not_forget_says_that_it_guesses_nothing(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path]
) -> None:
    server = launch("--model-path", tiny_model("mamba"))
    prediction = {"type": "content", "content": "hello"}
    answer = server.chat("hi", max_tokens=3, prediction=prediction, speculate="ngram")
    assert answer.headers["x-ignored-fields"] == "speculate, prediction"
    assert "x-ignored-fields" not in server.chat("hi", max_tokens=3, speculate="off").headers


@pytest.mark.model
def test_guesses_can_be_off_unless_a_request_wants_them(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path]
) -> None:
    server = launch("--model-path", tiny_model("llama"), "--speculate", "off")
    same = {"max_tokens": 40, "temperature": 0, "logit_bias": {"40": 100}}
    off, on = server.chat("hi", **same).json(), server.chat("hi", speculate="ngram", **same).json()
    assert off["choices"][0]["message"] == on["choices"][0]["message"]
    assert off["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] == 0
    assert on["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] > 10
