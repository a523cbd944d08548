"""Made-up events of an answer, and what a client of OpenAI's makes of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from mlx_server.app.encoders.head import Head
from mlx_server.app.encoders.openai_base import CompletionsEncoder
from mlx_server.schemas.internal.messages import (
    ChosenToken,
    Finished,
    FinishReason,
    Part,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
)

HEAD = Head("1234", 1_700_000_000, "org/model", SimpleNamespace(fingerprint="fp_ab"))


def text(said: str, index: int = 0, *chosen: ChosenToken) -> Text:
    """Visible text, one token."""
    return Text(1, index, said, 1, chosen)


def thought(said: str, index: int = 0) -> Reasoning:
    """Reasoning, one token."""
    return Reasoning(1, index, said, 1)


def call(arguments: str, number: int = 0, name: str | None = None, index: int = 0) -> ToolCall:
    """A part of a call; with a name it is the first."""
    return ToolCall(1, index, number, arguments, 1, None if name is None else f"call_{name}", name)


def finished(index: int = 0, reason: FinishReason = "stop", mean_logprob: float = 0.0) -> Finished:
    """The end of a sequence: 10 tokens of prompt for the first, 4 of them cached; 6 of answer, 2 of them reasoning."""
    first = index == 0
    return Finished(1, index, reason, 10 * first, 4 * first, 6, 2, None, mean_logprob)


def chosen(said: str, logprob: float | None = -0.5, **top: float) -> ChosenToken:
    """A token that was chosen, and others with their log-probabilities."""
    others = tuple(TokenLogprob(name, name.encode(), value) for name, value in top.items())
    return ChosenToken(TokenLogprob(said, said.encode(), logprob), others)


def whole(encoder: CompletionsEncoder, events: Iterable[Part | Finished]) -> dict[str, Any]:
    """The answer in one piece."""
    return dict(json.loads(encoder.whole(list(events))))


def streamed(encoder: CompletionsEncoder, events: Iterable[Part | Finished]) -> list[dict[str, Any]]:
    """All chunks of a stream, each event by itself; checks the form of the stream."""
    sent = encoder.begin() + b"".join(encoder.events([event]) for event in events) + encoder.end()
    *chunks, done, rest = sent.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(chunk.startswith("data: ") and "\n" not in chunk for chunk in chunks)
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
