"""`/v1/responses`: what clients get."""

from __future__ import annotations

from typing import Literal

import msgspec

from mlx_server.schemas.openai.common import Usage
from mlx_server.schemas.openai.responses import ConversationRef, ReasoningConfig, TextConfig, Truncation
from mlx_server.schemas.openai.responses_items import Item
from mlx_server.schemas.openai.responses_tools import FlatTool, ToolChoice

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ENDS: tuple[ResponseStatus, ...] = ("completed", "incomplete", "failed", "cancelled")


class InputTokensDetails(msgspec.Struct, frozen=True):
    """How many of the input's tokens came from a cache; writing to it costs nobody anything here."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """How many of the output's tokens were reasoning."""

    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True):
    """Token counts of a whole answer."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(msgspec.Struct, frozen=True):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response is cut off."""

    reason: Literal["max_output_tokens"]


class EchoedReasoning(msgspec.Struct, frozen=True):
    """The request's `reasoning`."""

    effort: str | None = None
    summary: str | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response as far as it has come, with what was asked for. Times are in seconds since the epoch.

    The numbers are those in force; `temperature` and `top_p` are null while the model that decides them still loads.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    conversation: ConversationRef | None = None
    status: ResponseStatus
    background: bool
    error: ResponseError | None = None
    frequency_penalty: float = 0.0
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[Item] = []
    parallel_tool_calls: bool
    presence_penalty: float = 0.0
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: EchoedReasoning
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float | None
    text: TextConfig
    tool_choice: ToolChoice
    tools: list[FlatTool]
    top_logprobs: int
    top_p: float | None
    truncation: Truncation = "disabled"
    usage: ResponseUsage | None = None
    user: str | None


class Deleted(msgspec.Struct, frozen=True):
    """A response that is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class InputTokens(msgspec.Struct, frozen=True):
    """How many tokens a prompt has."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


def echoed_reasoning(given: ReasoningConfig | None) -> EchoedReasoning:
    """What the request said of reasoning."""
    return EchoedReasoning(given.effort, given.summary or given.generate_summary) if given else EchoedReasoning()


def usage_of(usage: Usage) -> ResponseUsage:
    """The same counts by this API's names."""
    return ResponseUsage(
        usage.prompt_tokens,
        InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
        usage.completion_tokens,
        OutputTokensDetails(usage.completion_tokens_details.reasoning_tokens),
        usage.total_tokens,
    )


decoder = msgspec.json.Decoder(Response)
item_decoder: msgspec.json.Decoder[Item] = msgspec.json.Decoder(Item)
items_decoder = msgspec.json.Decoder(tuple[Item, ...])
