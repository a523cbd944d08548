"""`/v1/chat/completions`: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Message
from mlx_server.schemas.openai import Count, SamplingFields, Usage

MAX_MESSAGES = 10_000
ROLES = ("system", "developer", "user", "assistant")
VISION_ON_TEXT = "Vision requests are not supported with text-only models. Use a VLM model type instead."


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message's content; only text is served."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """A message as clients send it, with the extra nulls that SDK objects carry when they are sent back."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    audio: Any = None


class ChatRequest(SamplingFields, frozen=True, kw_only=True):
    """The body of a chat completion."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(max_length=MAX_MESSAGES)]
    max_completion_tokens: Count | None = None

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        if not self.messages:
            raise InvalidRequest("`messages` is empty: at least one message is needed.", "messages")
        messages = tuple(to_message(message, f"messages[{i}]") for i, message in enumerate(self.messages))
        return GenerationRequest(
            prompts=(ChatPrompt(messages),),
            max_tokens=self.max_completion_tokens or self.max_tokens or default_max_tokens,
            sampling=self.sampling(),
            stop=self.stops(),
        )


def to_message(message: ChatMessage, path: str) -> Message:
    """One inside message; `path` names it in a refusal. Raises InvalidRequest."""
    if message.role not in ROLES:
        raise InvalidRequest(
            f"`{path}.role`: {message.role!r} is not supported; allowed are {', '.join(ROLES)}.",
            f"{path}.role",
        )
    for field in ("tool_calls", "function_call", "tool_call_id", "audio"):
        if getattr(message, field):
            raise InvalidRequest(f"`{path}.{field}` is not supported by this server.", f"{path}.{field}")
    if message.content is None and message.role != "assistant":
        raise InvalidRequest(f"`{path}.content` is missing.", f"{path}.content")
    role = "system" if message.role == "developer" else message.role
    return Message(role=role, content=to_text(message.content, f"{path}.content"), name=message.name)


def to_text(content: str | list[ContentPart] | None, path: str) -> str:
    """The text of a message's content. Raises InvalidRequest for a part that is not text."""
    if content is None or isinstance(content, str):
        return content or ""
    for i, part in enumerate(content):
        if part.type in ("image_url", "input_image", "image"):
            raise InvalidRequest(VISION_ON_TEXT, f"{path}[{i}]")
        if part.type != "text":
            raise InvalidRequest(f"`{path}[{i}].type`: expected 'text', got {part.type!r}.", f"{path}[{i}].type")
        if part.text is None:
            raise InvalidRequest(f"`{path}[{i}].text` is missing.", f"{path}[{i}].text")
    return "".join(part.text or "" for part in content)


class AssistantMessage(msgspec.Struct, frozen=True):
    """The answer's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One answer to a request."""

    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    """A whole answer; `created` in seconds since the epoch."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """One choice's part of a chunk."""

    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: None = None


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str | None = None
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


decoder = msgspec.json.Decoder(ChatRequest)
