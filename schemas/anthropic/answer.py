"""Anthropic's `/v1/messages`: what clients get, whole and as events of a stream."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlx_server.schemas.internal.progress import PromptProgress


class TextBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A part of the visible answer."""

    text: str
    citations: None = None


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """Reasoning. Clients send it back with its signature, which holds what was not shown."""

    thinking: str
    signature: str


class DirectCaller(msgspec.Struct, frozen=True, tag_field="type", tag="direct"):
    """The model itself, not a program that it has written."""


class ToolUseBlock(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call of a tool; in a stream the input begins empty."""

    id: str
    name: str
    input: dict[str, Any]
    caller: DirectCaller = DirectCaller()


class CompactionBlock(msgspec.Struct, frozen=True, tag_field="type", tag="compaction"):
    """A summary of the conversation; null if none was written, and in a stream at first."""

    content: str | None
    encrypted_content: None = None


Block = TextBlock | ThinkingBlock | ToolUseBlock | CompactionBlock


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """How many of the answer's tokens were reasoning."""

    thinking_tokens: int


class MessageUsage(msgspec.Struct, frozen=True):
    """Token counts. `input_tokens` are those of the prompt that no cache had; nobody is charged for making an entry."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails(0)
    service_tier: Literal["standard"] = "standard"
    cache_creation: None = None
    inference_geo: None = None
    server_tool_use: None = None


class AssistantMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """An answer; in a stream it begins without content."""

    id: str
    model: str
    content: list[Block]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessageUsage
    role: Literal["assistant"] = "assistant"
    stop_details: None = None
    container: None = None


class MessageStart(msgspec.Struct, frozen=True, tag_field="type", tag="message_start"):
    """The first event."""

    message: AssistantMessage


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """Says nothing but that the answer is on its way, and, to who wants to know, how far its prompt is."""

    progress: PromptProgress | msgspec.UnsetType = msgspec.UNSET


class BlockStart(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_start"):
    """A block begins, still empty."""

    index: int
    content_block: Block


class TextDelta(msgspec.Struct, frozen=True, tag_field="type", tag="text_delta"):
    """More of a text."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """More reasoning."""

    thinking: str


class SignatureDelta(msgspec.Struct, frozen=True, tag_field="type", tag="signature_delta"):
    """The end of a block of reasoning."""

    signature: str


class InputJsonDelta(msgspec.Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    """More of a call's input."""

    partial_json: str


class CompactionDelta(msgspec.Struct, frozen=True, tag_field="type", tag="compaction_delta"):
    """The whole summary."""

    content: str | None
    encrypted_content: None = None


class BlockDelta(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    """What is added to a block."""

    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta | CompactionDelta


class BlockStop(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    """A block is complete."""

    index: int


class StopDelta(msgspec.Struct, frozen=True):
    """Why the answer ended."""

    stop_reason: str
    stop_sequence: str | None
    stop_details: None = None
    container: None = None


class MessageDelta(msgspec.Struct, frozen=True, tag_field="type", tag="message_delta"):
    """The end of the answer, and what it took in all."""

    delta: StopDelta
    usage: MessageUsage


class MessageStop(msgspec.Struct, frozen=True, tag_field="type", tag="message_stop"):
    """The last event."""


StreamEvent = MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
