"""What a model reads of the items of a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from mlx_server.schemas.internal.billing_line import is_billing_line, without_billing_line
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Document, FunctionCall, Media, Message
from mlx_server.schemas.internal.media import FILE_ID, MediaFields, as_url, to_media
from mlx_server.schemas.internal.sealed import unsealed
from mlx_server.schemas.openai.custom_tools import as_arguments
from mlx_server.schemas.openai.files import document_of
from mlx_server.schemas.openai.responses_items import (
    AdditionalToolsItem,
    ApplyPatchItem,
    ApplyPatchOutputItem,
    CallItem,
    CodeInterpreterItem,
    CompactionItem,
    ComputerCallItem,
    ComputerOutputItem,
    Content,
    CustomCallItem,
    CustomOutputItem,
    FileSearchItem,
    FunctionCallItem,
    FunctionOutputItem,
    HostedItem,
    ImageGenerationItem,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Item,
    LocalShellItem,
    LocalShellOutputItem,
    McpCallItem,
    MessageItem,
    OutputItem,
    ReasoningItem,
    Refusal,
    Screenshot,
    ShellItem,
    ShellOutput,
    ShellOutputItem,
    ToolSearchItem,
    ToolSearchOutputItem,
    WebSearchItem,
)
from mlx_server.schemas.openai.responses_tools import Toolbox

T = TypeVar("T")
Place = str | None
"""Where an item stands in the request; None for one that is kept here."""
Told = tuple[str, tuple[Media, ...], tuple[Document, ...]]
"""A text, and what has its place in it."""


class Source(msgspec.Struct, frozen=True):
    """Where a web search looked."""

    url: str


class WebAction(msgspec.Struct, frozen=True):
    """What a web search did."""

    query: str | None = None
    url: str | None = None
    sources: list[Source] | None = None


class FoundFile(msgspec.Struct, frozen=True):
    """What a search of files found."""

    text: str | None = None
    filename: str | None = None


class Logged(msgspec.Struct, frozen=True):
    """What a program wrote; pictures have no logs."""

    logs: str | None = None


def to_messages(
    instructions: str | None, earlier: Iterable[Item], items: Iterable[tuple[str, Item]], tools: Toolbox
) -> tuple[tuple[Message, ...], list[str]]:
    """The conversation that a chat template renders, and the paths of what is not in it. Raises InvalidRequest.

    `earlier` was said before; `items` have their paths. Neighbouring thoughts, words and calls of the model are one
    message, and so are the system's at the beginning: templates expect them like that.
    """
    instructions = instructions or ""
    told = without_billing_line(instructions)
    turns = [Message("system", told)] if told else []
    unread = ["instructions"] if is_billing_line(instructions) else []
    for place, item in [*((None, item) for item in earlier), *items]:
        messages = as_messages(item, place, tools)
        for message in messages:
            add(turns, message)
        if place is not None:
            unread += unread_of(item, place, messages)
    return tuple(turns), unread


def still_told(earlier: tuple[Item, ...]) -> tuple[Item, ...]:
    """What a model reads of what was said before: of all before the last summary only messages that are not its own."""
    summaries = [
        i for i, item in enumerate(earlier) if isinstance(item, CompactionItem) and unsealed(item.encrypted_content)
    ]
    last = summaries[-1] if summaries else 0
    others = [item for item in earlier[:last] if isinstance(item, MessageItem) and item.role != "assistant"]
    return (*others, *earlier[last:])


def add(turns: list[Message], message: Message) -> None:
    """Go on with the last turn, or begin another one."""
    last = turns[-1] if turns else None
    if last is not None and last.role == "system" == message.role and len(turns) == 1:
        turns[-1] = both(last, message)
    elif last is not None and continues(last, message):
        turns[-1] = joined(last, message)
    else:
        turns.append(message)


def both(last: Message, message: Message) -> Message:
    """Two messages of the system as one."""
    before = f"{last.content}\n\n"
    moved = (replace(one, at=one.at + len(before)) for one in message.documents)
    return Message("system", before + message.content, documents=(*last.documents, *moved))


def unread_of(item: Item, place: str, messages: Sequence[Message]) -> list[str]:
    """The paths of what of an item the model does not read."""
    match item:
        case AdditionalToolsItem():
            return []
        case MessageItem(role="system" | "developer"):
            texts = [part.text if isinstance(part, InputText) else "" for part in item.content]
            return [f"{place}.content[{i}]" for i, text in enumerate(texts) if is_billing_line(text)]
        case ReasoningItem(content=[], encrypted_content=str()):
            return [f"{place}.encrypted_content"]
        case ReasoningItem():
            return []
        case ComputerOutputItem() if not (item.output.image_url or item.output.file_id):
            return [f"{place}.output"]
    return [] if messages else [f"{place}.{item.__struct_config__.tag}"]


def as_messages(item: Item, place: Place, tools: Toolbox) -> list[Message]:
    """One item alone; none for what no model can read. Raises InvalidRequest."""
    match item:
        case MessageItem(role="system" | "developer"):
            return of_system(item, place)
        case MessageItem():
            text, media, documents = to_content(item.content, place and f"{place}.content")
            return [Message(item.role, text, media=media, documents=documents)]
        case ReasoningItem():
            thoughts = "".join(part.text for part in item.content) or "\n\n".join(part.text for part in item.summary)
            return [Message("assistant", "", reasoning=thoughts)] if thoughts else []
        case CompactionItem():
            summary = unsealed(item.encrypted_content)
            return [Message("user", summary)] if summary else []
        case AdditionalToolsItem():
            return []
        case ComputerCallItem():
            call = item.action if isinstance(item.action, dict) else {"actions": item.actions or []}
            return [calling(item.call_id, "computer", call)]
        case ComputerOutputItem():
            return [result(item.call_id, "", screenshot(item.output, place))]
        case _ if isinstance(item, CallItem):
            return [Message("assistant", "", tool_calls=call_of(item, tools))] if item.call_id else []
        case _ if isinstance(item, OutputItem):
            return output_of(item, place, tools)
        case _:
            return of_hosted(item, place, tools)


def of_system(item: MessageItem, place: Place) -> list[Message]:
    """What the system says, without what Claude Code tells Anthropic there, which proxies pass on. Raises
    InvalidRequest."""
    parts = [
        replace(part, text=without_billing_line(part.text)) if isinstance(part, InputText) else part
        for part in item.content
    ]
    text, _, documents = to_content(parts, place and f"{place}.content")
    heard = text or documents or parts == item.content
    return [Message("system", text, documents=documents)] if heard else []


def refuse_strays(earlier: Iterable[Item], items: Iterable[tuple[str, Item]]) -> None:
    """Raise InvalidRequest for what a call gave that is neither `earlier` nor among the `items` before it."""
    called = {None} | {item.call_id for item in earlier if isinstance(item, CallItem | ComputerCallItem)}
    for place, item in items:
        if isinstance(item, CallItem | ComputerCallItem):
            called.add(item.call_id)
        elif isinstance(item, OutputItem | ComputerOutputItem) and (wanted := answers(item)) not in called:
            message = f"`{place}.call_id`: nothing before it calls {str(wanted)[:200]!r}."
            raise InvalidRequest(message, f"{place}.call_id")


def answers(item: OutputItem | ComputerOutputItem) -> str | None:
    """The call that this is the output of; None for a search that the server made."""
    if isinstance(item, LocalShellOutputItem):
        return item.call_id or item.id
    return item.call_id


def call_of(item: CallItem, tools: Toolbox) -> tuple[FunctionCall, ...]:
    """A call as the model made it."""
    match item:
        case FunctionCallItem():
            name, arguments = tools.name_of("function", item.name, item.namespace or None), item.arguments
        case CustomCallItem():
            name = tools.name_of("custom", item.name, item.namespace or None)
            arguments = as_arguments(item.input)
        case LocalShellItem():
            action = {
                name: value for name, value in msgspec.to_builtins(item.action).items() if name != "type" and value
            }
            name, arguments = tools.name_of("local_shell", "local_shell"), as_json(action)
        case ShellItem():
            name, arguments = tools.name_of("shell", "shell"), as_json(item.action)
        case ApplyPatchItem():
            name, arguments = tools.name_of("apply_patch", "apply_patch"), as_json(item.operation)
        case ToolSearchItem():
            name, arguments = tools.name_of("tool_search", "tool_search"), as_json(item.arguments)
    return (FunctionCall(item.call_id or "", name, arguments),)


def output_of(item: OutputItem, place: Place, tools: Toolbox) -> list[Message]:
    """What a client's tool gave. Raises InvalidRequest."""
    match item:
        case FunctionOutputItem() | CustomOutputItem():
            parts = [InputText(item.output)] if isinstance(item.output, str) else item.output
            return [result(item.call_id, *to_content(parts, place and f"{place}.output"))]
        case LocalShellOutputItem():
            return [result(answers(item), item.output)]
        case ShellOutputItem():
            return [result(item.call_id, "\n".join(map(shell_text, item.output)))]
        case ApplyPatchOutputItem():
            return [result(item.call_id, ": ".join(filter(None, (item.status, item.output))))]
        case ToolSearchOutputItem():
            names = ", ".join(tools.names_in(item.tools)) or "no tools"
            return [result(item.call_id, f"Found: {names}.")] if item.call_id else []


def shell_text(output: ShellOutput) -> str:
    """What a command wrote, and how it ended."""
    end = "timed out" if output.outcome.type == "timeout" else f"exit code: {output.outcome.exit_code or 0}"
    return "\n".join(text for text in (output.stdout, output.stderr, f"[{end}]") if text)


def of_hosted(item: HostedItem, place: Place, tools: Toolbox) -> list[Message]:
    """What another server's tool did, as a call and its result; nothing where the result is not there.

    Raises InvalidRequest.
    """
    match item:
        case WebSearchItem():
            action = read(item.action or {}, WebAction, place, "action")
            found = "\n".join(source.url for source in action.sources or ())
            return pair(item.id, "web_search", {"query": action.query or action.url or ""}, found)
        case FileSearchItem():
            results = read(item.results or [], list[FoundFile], place, "results")
            found = "\n\n".join(f"{one.filename or ''}\n{one.text}".strip() for one in results if one.text)
            return pair(item.id, "file_search", {"queries": item.queries}, found)
        case CodeInterpreterItem():
            outputs = read(item.outputs or [], list[Logged], place, "outputs")
            return pair(item.id, "code_interpreter", {"code": item.code or ""}, "".join(o.logs or "" for o in outputs))
        case McpCallItem():
            name, given = tools.name_of("function", item.name, item.server_label), item.output or error_text(item.error)
            return pair(item.id, name, item.arguments, given)
        case ImageGenerationItem() if item.result:
            picture = [InputImage(as_url(item.result))]
            call = calling(item.id, "image_generation", {"prompt": item.revised_prompt or ""})
            return [call, result(item.id, *to_content(picture, place and f"{place}.result"))]
        case _:
            return []


def pair(id_: str, name: str, arguments: Any, given: str) -> list[Message]:
    """A call with its result, if there is one."""
    return [calling(id_, name, arguments), result(id_, given)] if given else []


def calling(id_: str, name: str, arguments: Any) -> Message:
    """A call."""
    text = arguments if isinstance(arguments, str) else as_json(arguments)
    return Message("assistant", "", tool_calls=(FunctionCall(id_, name, text),))


def result(id_: str | None, text: str, media: tuple[Media, ...] = (), documents: tuple[Document, ...] = ()) -> Message:
    """What a call gave."""
    return Message("tool", text, tool_call_id=id_, media=media, documents=documents)


def error_text(error: Any) -> str:
    """Why a call failed; servers have a text or an object there."""
    if not error:
        return ""
    return error if isinstance(error, str) else as_json(error)


def as_json(value: Any) -> str:
    """The value as JSON text."""
    return msgspec.json.encode(value).decode()


def read(value: Any, type_: type[T], place: Place, field: str) -> T:
    """A value that was kept as it was sent. Raises InvalidRequest for one that can't be read."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        path = f"{place}.{field}" if place else "previous_response_id"
        raise InvalidRequest(f"`{path}`: {error}.", path) from None


def screenshot(shown: Screenshot, place: Place) -> tuple[Media, ...]:
    """What a computer's screen shows, if that was sent. Raises InvalidRequest."""
    fields = MediaFields(image_url=shown.image_url or None, file_id=shown.file_id or None)
    if fields == MediaFields():
        return ()
    return (to_media("input_image", fields, 0, f"{place}.output" if place else "previous_response_id"),)


def to_content(parts: Sequence[Content], place: Place) -> Told:
    """The words of all parts, and what has its place in them. Raises InvalidRequest for what can't be read."""
    text, media, documents = "", [], []
    for i, part in enumerate(parts):
        where = f"{place}[{i}]" if place else "previous_response_id"
        match part:
            case InputImage():
                fields = MediaFields(image_url=part.image_url or None, file_id=part.file_id or None, detail=part.detail)
                media.append(to_media("input_image", fields, len(text), where))
            case InputAudio():
                media.append(to_media("input_audio", MediaFields(input_audio=part.input_audio), len(text), where))
            case InputFile():
                field, address = address_of(part)
                path = f"{where}.{field}" if place else where
                text, document = document_of(address, part.filename or None, text, path)
                documents.append(document)
            case Refusal():
                text += part.refusal
            case _:
                text += part.text
    return text, tuple(media), tuple(documents)


def address_of(file: InputFile) -> tuple[str, str]:
    """The field that says where a file is, and its URL or base64."""
    if file.file_id:
        return "file_id", f"{FILE_ID}{file.file_id}"
    return ("file_url", file.file_url) if file.file_url else ("file_data", file.file_data or "")


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
