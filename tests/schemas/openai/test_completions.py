import json
from typing import Any

import pytest

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Prompt, TextPrompt, TokenPrompt
from mlx_server.schemas.openai import completions as openai_completions
from mlx_server.schemas.openai.common import HARMLESS
from mlx_server.schemas.openai.completions import MAX_PROMPTS
from mlx_server.schemas.parsing.parse import parse


def _generation(prompt: Any, **fields: Any) -> GenerationRequest:
    body = json.dumps({"prompt": prompt, **fields}).encode()
    return parse(body, openai_completions.decoder, HARMLESS)[0].to_generation(8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Once", [TextPrompt("Once")]),
        ("", [TextPrompt("")]),
        (["Once"], [TextPrompt("Once")]),
        (["Once", "", "Twice"], [TextPrompt("Once"), TextPrompt(""), TextPrompt("Twice")]),
        ([1, 2, 3], [TokenPrompt((1, 2, 3))]),
        ([0], [TokenPrompt((0,))]),
        ([[1, 2], [3]], [TokenPrompt((1, 2)), TokenPrompt((3,))]),
        ([[1], []], [TokenPrompt((1,)), TokenPrompt(())]),
    ],
    ids=str,
)
def test_prompt_is_text_or_tokens_or_a_list_of_either(given: Any, expected: list[Prompt]) -> None:
    generation = _generation(given)
    assert list(generation.prompts) == expected
    assert generation.rows == len(expected)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ([], "prompt"),
        (["a", 1], "prompt"),
        ([1, [2]], "prompt"),
        ([[1], "a"], "prompt"),
        (None, "prompt"),
        (5, "prompt"),
        ({"text": "a"}, "prompt"),
        ([None], "prompt[0]"),
        ([1, True], "prompt[1]"),
        ([1.5], "prompt[0]"),
        ([1.0], "prompt[0]"),
        ([[1, "a"]], "prompt[0][1]"),
        ([[[1]]], "prompt[0][0]"),
        ([-1], "prompt[0]"),
        ([2**31], "prompt[0]"),
        ([2**70], "prompt[0]"),
        ([[0, -(2**70)]], "prompt[0][1]"),
    ],
    ids=str,
)
def test_prompt_of_another_form_is_refused_by_name(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _generation(given)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message


def test_prompts_are_limited_and_token_ids_of_one_prompt_are_not() -> None:
    assert _generation(["a"] * MAX_PROMPTS).rows == MAX_PROMPTS
    assert _generation([1] * (MAX_PROMPTS + 1)).rows == 1
    with pytest.raises(InvalidRequest, match=f"at most {MAX_PROMPTS}.* got {MAX_PROMPTS + 1}") as caught:
        _generation(["a"] * (MAX_PROMPTS + 1))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("fields", "n", "logprobs"),
    [
        ({}, 1, None),
        ({"n": 3}, 3, None),
        ({"n": 3, "best_of": 3, "stream": True}, 3, None),
        ({"best_of": 1}, 1, None),
        ({"logprobs": 0}, 1, 0),
        ({"logprobs": 20}, 1, 20),
        ({"best_of": 4}, 4, 0),
        ({"best_of": 4, "n": 2}, 4, 0),
        ({"best_of": 4, "logprobs": 2}, 4, 2),
    ],
    ids=str,
)
def test_best_of_makes_more_choices_and_needs_their_logprobs(
    fields: dict[str, Any], n: int, logprobs: int | None
) -> None:
    generation = _generation(["a", "b"], **fields)
    assert (generation.n, generation.rows, generation.logprobs) == (n, 2 * n, logprobs)


def test_echo_may_ask_for_nothing_more() -> None:
    generation = _generation("a", echo=True, max_tokens=0)
    assert (generation.echo, generation.max_tokens) == (True, 0)
    assert (_generation("a", echo=False).echo, _generation("a").max_tokens) == (False, 8)


def test_suffix_follows_every_prompt() -> None:
    assert _generation(["a", "b"], suffix="end").prompts == (TextPrompt("a", "end"), TextPrompt("b", "end"))
    assert _generation("a", suffix="").prompts == (TextPrompt("a", ""),)
    assert _generation([1], suffix="").prompts == (TokenPrompt((1,)),)


@pytest.mark.parametrize(
    ("prompt", "fields", "param"),
    [
        ("a", {"max_tokens": 0}, "max_tokens"),
        ("a", {"max_tokens": -1, "echo": True}, "max_tokens"),
        ("a", {"logprobs": True}, "logprobs"),
        ("a", {"logprobs": 21}, "logprobs"),
        ("a", {"logprobs": -1}, "logprobs"),
        ("a", {"echo": 1}, "echo"),
        ("a", {"best_of": 0}, "best_of"),
        ("a", {"best_of": 17}, "best_of"),
        ("a", {"best_of": 2, "n": 3}, "best_of"),
        ("a", {"best_of": 2, "stream": True}, "best_of"),
        ("a", {"suffix": 5}, "suffix"),
        ([1, 2], {"suffix": "x"}, "suffix"),
        ([[1, 2]], {"suffix": "x"}, "suffix"),
        (["a"] * 129, {"n": 2}, "prompt"),
        (["a"] * 17, {"best_of": 16}, "prompt"),
        ("a", {"regex": "a", "min_tokens": 1}, "min_tokens"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_that_can_not_be_are_refused_by_name(prompt: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _generation(prompt, **fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
