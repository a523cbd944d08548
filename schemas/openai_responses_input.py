"""`input` of `/v1/responses`, as clients send it, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.media import AudioData, MediaLink, check_fields, check_role, read_link
from mlx_server.schemas.openai_chat import MAX_MESSAGES
from mlx_server.schemas.openai_responses_items import (
    CompactionItem,
    FunctionCallItem,
    FunctionOutputItem,
    InputAudio,
    InputContent,
    InputImage,
    InputText,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Refusal,
    Role,
    SummaryText,
    new_id,
)
from mlx_server.schemas.sealed import unsealed

ROLES = ("user", "system", "developer", "assistant")
KINDS = ("message", "function_call", "function_call_output", "reasoning", "compaction")

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class InputPart(msgspec.Struct, frozen=True):
    """A part of a content: text, or a picture or a sound."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | MediaLink | None = None
    detail: str | None = None
    file_id: str | None = None
    input_audio: AudioData | None = None


Parts = str | list[InputPart] | None


class InputItem(msgspec.Struct, frozen=True):
    """An item of any kind, which decides what must be there. An easy message has no `type`."""

    type: str | None = None
    id: Id | None = None
    role: str | None = None
    content: Parts = None
    call_id: Id | None = None
    name: str | None = None
    arguments: str | None = None
    output: Parts = None
    summary: list[InputPart] | None = None
    encrypted_content: str | None = None


Input = str | Annotated[list[InputItem], msgspec.Meta(max_length=MAX_MESSAGES)]


def references_in(given: Input) -> dict[str, str]:
    """The ids that an input refers to, and where. A reference has an id and needs no type."""
    items = enumerate([] if isinstance(given, str) else given)
    return {item.id: f"input[{i}]" for i, item in items if item.id is not None and refers(item)}


def refers(item: InputItem) -> bool:
    """Whether it stands for an item that is kept."""
    return item.type == "item_reference" or (item.type is None and item.role is None and item.content is None)


def to_items(given: Input, called: set[str], known: Mapping[str, Item]) -> tuple[Item, ...]:
    """The items in their full form. `called` are the calls of the conversation so far, `known` the items that may be
    referred to, by their ids. Raises InvalidRequest."""
    if isinstance(given, str):
        return (MessageItem(new_id("msg"), "user", [InputText(given)]),)
    items: list[Item] = []
    called = set(called)
    for i, item in enumerate(given):
        path = f"input[{i}]"
        there = known.get(item.id or "") if refers(item) else None
        items.append(there or to_item(item, path, called))
        if isinstance(items[-1], FunctionCallItem):
            called.add(items[-1].call_id)
    return tuple(items)


def to_item(given: InputItem, path: str, called: set[str]) -> Item:
    """One item; `path` names it in a refusal. Raises InvalidRequest."""
    match given.type or "message":
        case "message":
            return to_message_item(given, path)
        case "function_call":
            return FunctionCallItem(
                given.id or new_id("fc"),
                needed(given.call_id, f"{path}.call_id"),
                needed(given.name, f"{path}.name"),
                needed(given.arguments, f"{path}.arguments"),
            )
        case "function_call_output":
            call_id = needed(given.call_id, f"{path}.call_id")
            if call_id not in called:
                raise InvalidRequest(f"`{path}.call_id`: nothing before it calls {call_id!r}.", f"{path}.call_id")
            output = content_of(given.output, f"{path}.output")
            shown = output if isinstance(output, str) else to_input(output, "tool", f"{path}.output")
            return FunctionOutputItem(given.id or new_id("fco"), call_id, shown)
        case "reasoning":
            return to_reasoning_item(given, path)
        case "compaction" | "compaction_summary":
            sealed = needed(given.encrypted_content, f"{path}.encrypted_content")
            opened(sealed, f"{path}.encrypted_content")
            return CompactionItem(given.id or new_id("cmp"), sealed)
        case other:
            raise InvalidRequest(
                f"`{path}.type`: {other!r} is not supported; allowed are {', '.join(KINDS)}.",
                f"{path}.type",
                "unsupported_parameter",
            )


def to_message_item(given: InputItem, path: str) -> MessageItem:
    """A message of either side. Raises InvalidRequest."""
    role = needed(given.role, f"{path}.role")
    if role not in ROLES:
        message = f"`{path}.role`: {role!r} is not supported; allowed are {', '.join(ROLES)}."
        raise InvalidRequest(message, f"{path}.role")
    content = content_of(given.content, f"{path}.content")
    parts = [InputPart("input_text", content)] if isinstance(content, str) else content
    id_ = given.id or new_id("msg")
    if role != "assistant":
        return MessageItem(id_, cast(Role, role), [*to_input(parts, role, f"{path}.content")])
    said = [
        Refusal(part.refusal) if part.type == "refusal" and part.refusal is not None else OutputText(text)
        for part, text in zip(parts, texts_of(parts, f"{path}.content"), strict=True)
    ]
    return MessageItem(id_, "assistant", [*said])


def to_reasoning_item(given: InputItem, path: str) -> ReasoningItem:
    """Thoughts that come back. Raises InvalidRequest for sealed ones that another server sealed."""
    content = given.content or []
    thoughts = [content] if isinstance(content, str) else texts_of(content, f"{path}.content")
    if not thoughts and given.encrypted_content is not None:
        thoughts = [opened(given.encrypted_content, f"{path}.encrypted_content")]
    return ReasoningItem(
        given.id or new_id("rs"),
        [SummaryText(text) for text in texts_of(given.summary or [], f"{path}.summary")],
        [ReasoningText(text) for text in thoughts],
        given.encrypted_content,
    )


def to_input(parts: list[InputPart], role: str, path: str) -> list[InputContent]:
    """What a user shows and says, or a tool gave. Raises InvalidRequest."""
    return [to_input_part(part, role, f"{path}[{i}]") for i, part in enumerate(parts)]


def to_input_part(part: InputPart, role: str, where: str) -> InputContent:
    """One part of it. Raises InvalidRequest."""
    if part.type not in MEDIA:
        return InputText(text_of(part, where))
    check_role(role, where)
    check_fields(part, part.type, FIELDS, where)
    if part.type == "input_audio":
        if part.input_audio is None:
            raise InvalidRequest(f"`{where}.input_audio` is missing.", f"{where}.input_audio")
        return InputAudio(part.input_audio)
    if part.image_url is None:
        raise InvalidRequest(f"`{where}.image_url` is missing.", f"{where}.image_url")
    url, detail = read_link(part.image_url, f"{where}.image_url")
    return InputImage(url, detail or part.detail or "auto")


MEDIA = ("input_image", "input_audio")
TEXTS = ("input_text", "output_text", "reasoning_text", "summary_text")
FIELDS = {
    **dict.fromkeys(TEXTS, ("text",)),
    "refusal": ("refusal",),
    "input_image": ("image_url", "detail"),
    "input_audio": ("input_audio",),
}
"""By a part's type: the fields that count in it."""


def texts_of(parts: list[InputPart], path: str) -> list[str]:
    """The words of every part. Raises InvalidRequest for a part that has none."""
    return [text_of(part, f"{path}[{i}]") for i, part in enumerate(parts)]


def text_of(part: InputPart, where: str) -> str:
    """The words of a part. Raises InvalidRequest if it has none."""
    if part.type in MEDIA:
        check_role("assistant", where)
    if part.type in FIELDS:
        check_fields(part, part.type, FIELDS, where)
    if part.type == "refusal":
        return needed(part.refusal, f"{where}.refusal")
    if part.type in TEXTS:
        return needed(part.text, f"{where}.text")
    allowed = "'input_text', 'output_text', 'input_image' and 'input_audio' are"
    message = f"`{where}.type`: {part.type[:64]!r} is not supported; {allowed}."
    raise InvalidRequest(message, f"{where}.type", "unsupported_parameter")


def needed(value: str | None, path: str) -> str:
    """The value. Raises InvalidRequest if it is missing."""
    if value is None:
        raise InvalidRequest(f"`{path}` is missing.", path)
    return value


def content_of(value: Parts, path: str) -> str | list[InputPart]:
    """The content. Raises InvalidRequest if it is missing."""
    if value is None:
        raise InvalidRequest(f"`{path}` is missing.", path)
    return value


def opened(sealed: str, path: str) -> str:
    """What was sealed. Raises InvalidRequest if it was not sealed here."""
    text = unsealed(sealed)
    if text is None:
        message = f"`{path}`: this was not made by this server; leave the item out, or send its `content`."
        raise InvalidRequest(message, path)
    return text
