"""The items that `/v1/responses` is made of: what was said, thought, called and answered, in the API's own form."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from mlx_server.schemas.generation import FunctionCall, Media, Message
from mlx_server.schemas.media import AudioData, MediaFields, to_media
from mlx_server.schemas.openai_chat import ChosenLogprob
from mlx_server.schemas.sealed import unsealed

Status = Literal["in_progress", "completed", "incomplete"]
Role = Literal["user", "system", "developer", "assistant"]


class InputText(msgspec.Struct, frozen=True, tag="input_text", tag_field="type"):
    """What a client said."""

    text: str


class InputImage(msgspec.Struct, frozen=True, tag="input_image", tag_field="type"):
    """A picture that a client showed; it is kept as it was sent."""

    image_url: str
    detail: str = "auto"


class InputAudio(msgspec.Struct, frozen=True, tag="input_audio", tag_field="type"):
    """A sound that a client sent."""

    input_audio: AudioData


InputContent = InputText | InputImage | InputAudio


class OutputText(msgspec.Struct, frozen=True, tag="output_text", tag_field="type"):
    """What a model said; there is nothing to annotate it with."""

    text: str
    annotations: list[Any] = []
    logprobs: list[ChosenLogprob] = []


class Refusal(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    """What another model said instead of an answer; clients send it back."""

    refusal: str


Content = InputContent | OutputText | Refusal


class ReasoningText(msgspec.Struct, frozen=True, tag="reasoning_text", tag_field="type"):
    """What a model thought, word for word."""

    text: str


class SummaryText(msgspec.Struct, frozen=True, tag="summary_text", tag_field="type"):
    """What another server said about its model's thoughts."""

    text: str


class MessageItem(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    """A message of either side."""

    id: str
    role: Role
    content: list[Content]
    status: Status = "completed"


class ReasoningItem(msgspec.Struct, frozen=True, tag="reasoning", tag_field="type"):
    """Thoughts. `encrypted_content` is for clients that keep the conversation themselves; see `seal`."""

    id: str
    summary: list[SummaryText] = []
    content: list[ReasoningText] = []
    encrypted_content: str | None = None
    status: Status = "completed"


class FunctionCallItem(msgspec.Struct, frozen=True, tag="function_call", tag_field="type"):
    """A call of a function; `arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "completed"


class FunctionOutputItem(msgspec.Struct, frozen=True, tag="function_call_output", tag_field="type"):
    """What a called function gave."""

    id: str
    call_id: str
    output: str | list[InputContent]
    status: Status = "completed"


class CompactionItem(msgspec.Struct, frozen=True, tag="compaction", tag_field="type"):
    """What a conversation was made shorter to, sealed; see `seal`."""

    id: str
    encrypted_content: str


Item = MessageItem | ReasoningItem | FunctionCallItem | FunctionOutputItem | CompactionItem


class ItemList(msgspec.Struct, frozen=True):
    """A page of items; the ids are those of its first and last one, empty if it has none."""

    object: Literal["list"]
    data: list[Item]
    first_id: str
    last_id: str
    has_more: bool


def new_id(prefix: str) -> str:
    """An id of the API's form."""
    return f"{prefix}_{uuid.uuid4().hex}"


def calls_in(items: tuple[Item, ...]) -> set[str]:
    """The ids of all calls, which results may refer to."""
    return {item.call_id for item in items if isinstance(item, FunctionCallItem)}


def to_messages(instructions: str | None, earlier: tuple[Item, ...], items: tuple[Item, ...]) -> tuple[Message, ...]:
    """The conversation that a chat template renders, with what was said `earlier` in it. Raises InvalidRequest.

    Neighbouring thoughts, words and calls of the model are one message, and so are the system's at the beginning:
    templates expect them like that.
    """
    turns = [Message("system", instructions)] if instructions else []
    for i, item in enumerate(earlier + items, -len(earlier)):
        message = as_message(item, f"input[{i}]" if i >= 0 else None)
        last = turns[-1] if turns else None
        if last is not None and last.role == "system" == message.role and len(turns) == 1:
            turns[-1] = Message("system", f"{last.content}\n\n{message.content}")
        elif last is not None and continues(last, message):
            turns[-1] = joined(last, message)
        else:
            turns.append(message)
    return tuple(turns)


def as_message(item: Item, place: str | None) -> Message:
    """One item alone; `place` names it in a refusal, None for one that is kept here. Raises InvalidRequest."""
    match item:
        case MessageItem():
            role = "system" if item.role == "developer" else item.role
            text, media = to_content(item.content, place and f"{place}.content")
            return Message(role, text, media=media)
        case ReasoningItem():
            thoughts = "".join(part.text for part in item.content) or "\n\n".join(part.text for part in item.summary)
            return Message("assistant", "", reasoning=thoughts or None)
        case CompactionItem():
            return Message("user", unsealed(item.encrypted_content) or "")
        case FunctionCallItem():
            return Message("assistant", "", tool_calls=(FunctionCall(item.call_id, item.name, item.arguments),))
        case FunctionOutputItem():
            parts = [InputText(item.output)] if isinstance(item.output, str) else item.output
            output, media = to_content(parts, place and f"{place}.output")
            return Message("tool", output, tool_call_id=item.call_id, media=media)


def to_content(parts: Sequence[Content], place: str | None) -> tuple[str, tuple[Media, ...]]:
    """The words of all parts, and what has its place in them. Raises InvalidRequest for an unknown detail."""
    text, media = "", []
    for i, part in enumerate(parts):
        where = f"{place}[{i}]" if place else "previous_response_id"
        match part:
            case InputImage():
                fields = MediaFields(image_url=part.image_url, detail=part.detail)
                media.append(to_media("input_image", fields, len(text), where))
            case InputAudio():
                media.append(to_media("input_audio", MediaFields(input_audio=part.input_audio), len(text), where))
            case Refusal():
                text += part.refusal
            case _:
                text += part.text
    return text, tuple(media)


def continues(last: Message, message: Message) -> bool:
    """A model thinks, then speaks, then calls: what comes in this order is one message."""
    if last.role != "assistant" or message.role != "assistant":
        return False
    if message.tool_calls:
        return True
    if last.tool_calls or last.content:
        return False
    return message.reasoning is None or last.reasoning is None


def joined(last: Message, message: Message) -> Message:
    """Two messages of the model as one."""
    return Message(
        "assistant",
        last.content + message.content,
        reasoning=message.reasoning or last.reasoning,
        tool_calls=last.tool_calls + message.tool_calls,
    )
