from pathlib import Path
from typing import Any

import pytest
from support.templates import with_template

from mlx_server.workers.engine.output.thinking import starts_thinking

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    return with_template(smollm2, None, ("<think>", "</think>"))


@pytest.mark.parametrize(
    ("text", "thinks"),
    [
        ("<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n<think>a</think>b<|im_end|>\n<|im_start|>assistant\n<think>", True),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", False),
        ("no turns, as R1 has it: <think>\n", True),
        ("", False),
    ],
)
def test_starts_thinking_if_the_last_turn_leaves_reasoning_open(tokenizer: Any, text: str, thinks: bool) -> None:
    assert starts_thinking(tokenizer, tokenizer.encode(text)) is thinks


def test_a_model_that_does_not_reason_never_starts_with_it(smollm2: Path) -> None:
    plain = with_template(smollm2, None)
    assert starts_thinking(plain, plain.encode("<think>")) is False


@pytest.mark.parametrize(("state", "thinks"), [("reasoning", True), ("header", False)])
def test_a_formats_own_first_state_wins(tokenizer: Any, state: str, thinks: bool) -> None:
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    formatted = TokenizerWrapper(tokenizer._tokenizer, response_format={"initial_state": state})
    assert starts_thinking(formatted, formatted.encode("<think>" if not thinks else "")) is thinks
