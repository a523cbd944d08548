"""`/v1/responses/compact`: a conversation becomes shorter, to be gone on from."""

from __future__ import annotations

from typing import Literal

import msgspec

from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Limits, Message, ToolUse
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.openai.responses import ResponsesRequest, Turn
from mlx_server.schemas.openai.responses_answer import ResponseUsage
from mlx_server.schemas.openai.responses_items import CompactionItem, Item, MessageItem, new_id

MAX_SUMMARY_TOKENS = 4096

ASKED = (
    "Summarise the conversation so far, so that it can be continued from your summary alone. Say what the user wants,"
    " what has been done and found out, with the names, paths, numbers and decisions that matter, and what is still to"
    " be done. Write nothing but the summary."
)
PREFACE = "Summary of the conversation so far:\n\n"


class CompactRequest(ResponsesRequest, frozen=True, kw_only=True):
    """What `/v1/responses` takes; the model must be named, or null."""

    model: str | None


class Compaction(Turn):
    """A request for a summary of all that was said, which the model itself writes."""

    stream = False

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        generation = super().to_generation(default_max_tokens)
        [prompt] = generation.prompts
        assert isinstance(prompt, ChatPrompt)
        messages = (*prompt.messages, Message("user", ASKED))
        return msgspec.structs.replace(
            generation,
            prompts=(msgspec.structs.replace(prompt, messages=messages, drops_oldest=True),),
            max_tokens=min(self.given.max_output_tokens or MAX_SUMMARY_TOKENS, MAX_SUMMARY_TOKENS),
            limits=Limits(),
            logprobs=None,
            grammar=None,
            tool_use=ToolUse("none"),
        )

    def compacted(self, summary: str) -> list[Item]:
        """What the user said, and the summary of all the rest."""
        said = (*self.earlier, *self.items)
        users: list[Item] = [item for item in said if isinstance(item, MessageItem) and item.role == "user"]
        return [*users, CompactionItem(new_id("cmp"), seal(f"{PREFACE}{summary}"))]


class CompactedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation made shorter; `created_at` in seconds since the epoch."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Item]
    usage: ResponseUsage


decoder = msgspec.json.Decoder(CompactRequest)
