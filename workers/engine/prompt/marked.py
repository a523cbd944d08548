"""Places in a conversation that its client marks: the prompt will be used again up to there."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from mlx_server.schemas.internal.generation import ChatPrompt
from mlx_server.workers.engine.kvcache.prefix_index import CHECKPOINTS

MOST_MARKS = 4
"""As in Anthropic's API; the last ones count."""

WORTH_FINDING = 256
"""Characters before a mark: to find it takes a rendering of all of them."""


def marked_beginnings(prompt: ChatPrompt) -> Iterator[ChatPrompt]:
    """The prompt up to each of its marks, but for those where a checkpoint is anyway. Prompts with pictures have
    none."""
    messages = prompt.messages
    if any(message.media for message in messages):
        return
    places = [(i, at) for i, message in enumerate(messages) for at in message.marks]
    for i, at in places[-MOST_MARKS:]:
        whole = at == len(messages[i].content) and (i == 0 or i >= len(messages) - CHECKPOINTS)
        before = sum(len(message.content) for message in messages[:i]) + at
        if before >= WORTH_FINDING and not whole:
            cut = replace(messages[i], content=messages[i].content[:at])
            yield replace(prompt, messages=(*messages[:i], cut), continues_last=False, opens_answer=False)


def common(one: list[int], other: list[int]) -> int:
    """How many tokens two lists have in common at the beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
