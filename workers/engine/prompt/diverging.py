"""Where a conversation's prompt stops being what it was: in which message."""

from __future__ import annotations

from bisect import bisect_right

from msgspec.structs import replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt
from mlx_server.schemas.internal.messages import PrefixOf
from mlx_server.workers.engine.prompt.marked import common
from mlx_server.workers.engine.prompt.prompts import PromptMaker


def message_at(prompts: PromptMaker, question: PrefixOf, tokens: list[int], place: int) -> int | None:
    """The index of the message that the token at `place` is of, found by rendering fewer messages; None where the
    prompt has none, shows pictures, or can't be rendered without its end. Tokenizer's thread only."""
    prompt = question.prompt
    if not isinstance(prompt, ChatPrompt) or any(message.media for message in prompt.messages):
        return None

    def reaches(count: int) -> int:
        """How many of the tokens the first messages have."""
        fewer = replace(prompt, messages=prompt.messages[:count], continues_last=False, opens_answer=False)
        return common(prompts.tokens(fewer, question.tool_use, question.tenant), tokens)

    counts = range(1, len(prompt.messages))
    try:
        return bisect_right(counts, place, key=reaches)
    except InvalidRequest:
        return None
