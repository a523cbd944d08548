"""The events of a streamed response. `sequence_number` counts all of one response's from 0."""

from __future__ import annotations

import msgspec

from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai.chat import ChosenLogprob
from mlx_server.schemas.openai.responses_answer import Response
from mlx_server.schemas.openai.responses_items import Item, OutputText, ReasoningText


class StreamEvent(msgspec.Struct, frozen=True, tag_field="type", tag=""):
    """What all events have."""

    sequence_number: int

    @property
    def kind(self) -> str:
        """The event's type."""
        return str(self.__struct_config__.tag)


class _OfResponse(StreamEvent, frozen=True):
    response: Response


class Created(_OfResponse, frozen=True, tag="response.created"):
    """The response exists."""


class Queued(_OfResponse, frozen=True, tag="response.queued"):
    """It waits, without a client."""


class InProgress(_OfResponse, frozen=True, tag="response.in_progress"):
    """It is being made; before its first item, `progress` tells how far that is, if the request wants to know."""

    progress: PromptProgress | msgspec.UnsetType = msgspec.UNSET


class Completed(_OfResponse, frozen=True, tag="response.completed"):
    """It is whole."""


class Incomplete(_OfResponse, frozen=True, tag="response.incomplete"):
    """It was cut off."""


class Failed(_OfResponse, frozen=True, tag="response.failed"):
    """It came to nothing, or to no more than there is."""


class Error(StreamEvent, frozen=True, tag="error"):
    """What went wrong, after the stream had begun."""

    code: str | None
    message: str
    param: str | None


class ItemAdded(StreamEvent, frozen=True, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: Item


class ItemDone(StreamEvent, frozen=True, tag="response.output_item.done"):
    """An item is whole."""

    output_index: int
    item: Item


class _OfItem(StreamEvent, frozen=True):
    item_id: str
    output_index: int


class _OfPart(_OfItem, frozen=True):
    content_index: int


class PartAdded(_OfPart, frozen=True, tag="response.content_part.added"):
    """A part of an item's content begins."""

    part: OutputText | ReasoningText


class PartDone(_OfPart, frozen=True, tag="response.content_part.done"):
    """A part is whole."""

    part: OutputText | ReasoningText


class TextDelta(_OfPart, frozen=True, tag="response.output_text.delta"):
    """More text."""

    delta: str
    logprobs: list[ChosenLogprob]


class TextDone(_OfPart, frozen=True, tag="response.output_text.done"):
    """All the text."""

    text: str
    logprobs: list[ChosenLogprob]


class ReasoningDelta(_OfPart, frozen=True, tag="response.reasoning_text.delta"):
    """More of what the model thinks."""

    delta: str


class ReasoningDone(_OfPart, frozen=True, tag="response.reasoning_text.done"):
    """All that it thought."""

    text: str


class ArgumentsDelta(_OfItem, frozen=True, tag="response.function_call_arguments.delta"):
    """More of a call's arguments."""

    delta: str


class ArgumentsDone(_OfItem, frozen=True, tag="response.function_call_arguments.done"):
    """All the arguments."""

    name: str
    arguments: str


class InputDelta(_OfItem, frozen=True, tag="response.custom_tool_call_input.delta"):
    """More of a custom tool's text."""

    delta: str


class InputDone(_OfItem, frozen=True, tag="response.custom_tool_call_input.done"):
    """All the text."""

    input: str


Event = (
    Created
    | Queued
    | InProgress
    | Completed
    | Incomplete
    | Failed
    | Error
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
    | InputDelta
    | InputDone
)
"""All that a stream may hold."""
