"""Where an answer begins: in its reasoning, or with what is said."""

from __future__ import annotations

from typing import Any


def starts_thinking(tokenizer: Any, tokens: list[int]) -> bool:
    """Whether a chat prompt leaves a block of reasoning open, so that the answer begins inside it.

    As mlx-lm tells it (the last opening mark comes after the last closing one; a format's own first state wins), but
    marks in turns that have ended don't count: those are what somebody wrote.
    """
    if tokenizer.response_initial_state is not None:
        return bool(tokenizer.response_initial_state == "reasoning")
    if not tokenizer.has_thinking:
        return False
    ends = tokenizer.eos_token_ids
    turn = next((at + 1 for at in range(len(tokens) - 1, -1, -1) if tokens[at] in ends), 0)
    return bool(tokenizer.rfind_think_start(tokens, start=turn) > tokenizer.rfind_think_end(tokens, start=turn))
