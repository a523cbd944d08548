"""Conversations that become shorter, to be gone on from: by `/v1/responses/compact`, or by an item of the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from mlx_server.schemas.internal.generation import GenerationRequest
from mlx_server.schemas.internal.sealed import seal
from mlx_server.schemas.internal.summary import PREFACE, summarising
from mlx_server.schemas.openai.responses import ResponsesRequest, Turn
from mlx_server.schemas.openai.responses_answer import ResponseUsage
from mlx_server.schemas.openai.responses_items import CompactionItem, Item, MessageItem, new_id

MAX_SUMMARY_TOKENS = 4096
TRIGGER = "compaction_trigger"


class CompactRequest(ResponsesRequest, frozen=True, kw_only=True):
    """What `/v1/responses` takes; the model must be named, or null."""

    model: str | None


class Summary(Turn):
    """A request for a summary of all that was said, which the model itself writes."""

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        most = min(self.given.max_output_tokens or MAX_SUMMARY_TOKENS, MAX_SUMMARY_TOKENS)
        return summarising(super().to_generation(default_max_tokens), most)


class Compaction(Summary):
    """One that is asked for at the endpoint of its own."""

    stream = False

    def compacted(self, summary: str) -> list[Item]:
        """What the user said, and the summary of all the rest."""
        said = (*self.earlier, *self.items)
        users: list[Item] = [item for item in said if isinstance(item, MessageItem) and item.role == "user"]
        return [*users, to_item(summary)]


class TriggeredSummary(Summary):
    """One that the last item of a response's input asks for."""

    def __init__(
        self, given: ResponsesRequest, earlier: tuple[Item, ...] = (), known: Mapping[str, Item] | None = None
    ) -> None:
        super().__init__(msgspec.structs.replace(given, input=(given.input or [])[:-1]), earlier, known)


def triggers(given: ResponsesRequest) -> bool:
    """Whether a response is to be a summary."""
    return isinstance(given.input, list) and bool(given.input) and given.input[-1].type == TRIGGER


def to_item(summary: str) -> CompactionItem:
    """A summary as clients send it back."""
    return CompactionItem(new_id("cmp"), seal(f"{PREFACE}{summary}"))


class CompactedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation made shorter; `created_at` in seconds since the epoch."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Item]
    usage: ResponseUsage


decoder = msgspec.json.Decoder(CompactRequest)
