"""A conversation's messages as the dicts that templates read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec

from mlx_server.schemas.attachments import replace_media
from mlx_server.schemas.internal.generation import FunctionCall, Media, MediaKind, Message
from mlx_server.workers.engine.prompt.templates.content import ContentForm, appended, wrapped
from mlx_server.workers.engine.prompt.templates.tools import Knowledge

OPENED, CLOSED = "<tool_response>\n", "\n</tool_response>"
"""Round a call's result, for a model without a template for it."""

SHOWN_AFTER: dict[MediaKind, str] = {
    "image": "[The image is shown after this result.]",
    "audio": "[The sound is heard after this result.]",
    "video": "[The film is shown after this result.]",
}
"""In the place of what a template does not show in a result."""

Stray = Literal["kept", "wrapped", "left out"]
"""What becomes of a call's arguments that are no JSON object: `kept` as a string, `wrapped` into an object."""


def linked(messages: Sequence[Message]) -> list[Message]:
    """The messages with what clients leave out: ids of calls, which call a result belongs to, and its function."""
    names: dict[str, str] = {}
    complete = []
    for i, message in enumerate(messages):
        if message.tool_calls:
            given = enumerate(message.tool_calls)
            calls = tuple(msgspec.structs.replace(call, id=call.id or f"call_{i}_{j}") for j, call in given)
            names.update((call.id, call.name) for call in calls)
            message = msgspec.structs.replace(message, tool_calls=calls)
        elif message.role == "tool":
            id_ = message.tool_call_id or latest(names, message.name)
            name = message.name or names.get(id_ or "")
            message = msgspec.structs.replace(message, tool_call_id=id_, name=name)
        complete.append(message)
    return complete


def latest(names: dict[str, str], name: str | None) -> str | None:
    """The id of the last call of a function, or of any function if there is no name."""
    return next((id_ for id_, called in reversed(names.items()) if name in (None, called)), None)


def calls_as_text(messages: Sequence[Message], knows: Knowledge) -> list[Message]:
    """The messages with calls and results that a template knows nothing of as text: the assistant's, and the user's."""
    made: list[Message] = []
    answering = False
    for message in messages:
        as_text = message.role == "tool" and not knows.results
        if as_text:
            message = Message("user", message.content, media=message.media)
            message = wrapped(message, f"\n{OPENED}" if answering else OPENED, CLOSED)
        elif message.tool_calls and not knows.calls:
            calls = "\n".join(map(call_text, message.tool_calls))
            content = f"{message.content}\n{calls}" if message.content else calls
            message = msgspec.structs.replace(message, content=content, tool_calls=())
        if as_text and answering:
            made[-1] = appended(made[-1], message)
        else:
            made.append(message)
        answering = as_text
    return made


def media_after_results(messages: Sequence[Message], shown: Collection[MediaKind]) -> list[Message]:
    """The same with media of results, but for the kinds that are shown there, in a turn of the user's after these."""
    made: list[Message] = []
    waiting: tuple[Media, ...] = ()
    for message in messages:
        if message.role == "tool":
            hidden = [one for one in message.media if one.kind not in shown]
            waiting += tuple(msgspec.structs.replace(one, at=0) for one in hidden)
            message = replace_media(message, lambda one: None if one.kind in shown else SHOWN_AFTER[one.kind])
        elif waiting:
            made.append(Message("user", "", media=waiting))
            waiting = ()
        made.append(message)
    return [*made, Message("user", "", media=waiting)] if waiting else made


def to_dicts(
    messages: Sequence[Message], knows: Knowledge, stray: Stray = "kept", form: ContentForm | None = None
) -> list[dict[str, Any]]:
    """Messages for a template that takes all that they are."""
    return [to_dict(message, knows, stray, form or ContentForm()) for message in messages]


def to_dict(message: Message, knows: Knowledge, stray: Stray, form: ContentForm) -> dict[str, Any]:
    """One message."""
    made: dict[str, Any] = {"role": message.role, "content": form.of(message)}
    if knows.null_content and message.tool_calls and not message.content and not message.media:
        made["content"] = None
    if message.name is not None:
        made["name"] = message.name
    if message.reasoning is not None:
        made |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
    if message.tool_call_id is not None:
        made["tool_call_id"] = given_id(message.tool_call_id, knows)
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": given_id(call.id, knows),
                "type": "function",
                "function": {"name": call.name, "arguments": given_arguments(call, knows, stray)},
            }
            for call in message.tool_calls
        ]
    return made


def given_id(id_: str, knows: Knowledge) -> str:
    """The id of a call as the template takes it."""
    if not knows.short_ids or (len(id_) == 9 and id_.isascii() and id_.isalnum()):
        return id_
    return hashlib.sha256(id_.encode()).hexdigest()[:9]


def given_arguments(call: FunctionCall, knows: Knowledge, stray: Stray) -> Any:
    """The arguments of a call as the template takes them."""
    parsed = parsed_arguments(call.arguments)
    if parsed is None and stray != "kept":
        parsed = {"raw": call.arguments} if stray == "wrapped" else {}
        return parsed if knows.arguments == "object" else json.dumps(parsed, ensure_ascii=False)
    return call.arguments or "{}" if parsed is None or knows.arguments == "string" else parsed


def parsed_arguments(arguments: str) -> dict[str, Any] | None:
    """The JSON object; an empty one for no text, None for any other text."""
    if not arguments.strip():
        return {}
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return None


def call_text(call: FunctionCall) -> str:
    """A call as a model without a template for it is told to write it."""
    parsed = parsed_arguments(call.arguments)
    arguments = call.arguments if parsed is None else parsed
    return f"<tool_call>\n{json.dumps({'name': call.name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"
