import json
from typing import Any

import pytest

from mlx_server.schemas import openai_completions
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import GenerationRequest, Prompt, TextPrompt, TokenPrompt
from mlx_server.schemas.openai import HARMLESS
from mlx_server.schemas.openai_completions import MAX_PROMPTS
from mlx_server.schemas.parse import parse


def _generation(prompt: Any) -> GenerationRequest:
    body = json.dumps({"prompt": prompt}).encode()
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
