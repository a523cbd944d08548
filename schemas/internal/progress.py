"""How far a prompt is whose answer has not begun, as all APIs tell it."""

from __future__ import annotations

from typing import Literal

import msgspec


class PromptProgress(msgspec.Struct, frozen=True):
    """`queue_position` is 1 for who is next and `eta_s` the seconds until its turn, roughly; both are null
    once the prompt is being read, and the seconds until a first request has ended. Counts are in tokens; the whole one
    is null until it is known, and tokens that were known from earlier prompts are processed."""

    state: Literal["queued", "prefill"]
    queue_position: int | None
    eta_s: float | None
    prompt_tokens: int | None
    processed_tokens: int
