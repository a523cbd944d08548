"""`input` of `/v1/responses`, as clients send it, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, cast, get_args

import msgspec
from msgspec.structs import replace

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.media import AudioData, MediaLink, check_fields, check_role, read_link
from mlx_server.schemas.internal.sealed import unsealed
from mlx_server.schemas.openai.chat import MAX_MESSAGES
from mlx_server.schemas.openai.responses_items import (
    AdditionalToolsItem,
    ApplyPatchItem,
    ApplyPatchOutputItem,
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
    ImageGenerationItem,
    InputAudio,
    InputContent,
    InputFile,
    InputImage,
    InputText,
    Item,
    LocalShellItem,
    LocalShellOutputItem,
    McpApprovalRequestItem,
    McpApprovalResponseItem,
    McpCallItem,
    McpListToolsItem,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Refusal,
    Role,
    ShellItem,
    ShellOutputItem,
    SummaryText,
    ToolSearchItem,
    ToolSearchOutputItem,
    WebSearchItem,
    new_id,
)
from mlx_server.schemas.openai.responses_tools import without_secrets
from mlx_server.schemas.parsing.field_tree import fields_of
from mlx_server.schemas.parsing.parse import explain

ROLES = ("user", "system", "developer", "assistant")

# By an item's type: what it becomes, and how its id begins.
ITEMS_AS_SENT: dict[str, tuple[type[Item], str]] = {
    "custom_tool_call": (CustomCallItem, "ctc"),
    "local_shell_call": (LocalShellItem, "lsh"),
    "local_shell_call_output": (LocalShellOutputItem, "lsho"),
    "shell_call": (ShellItem, "sh"),
    "shell_call_output": (ShellOutputItem, "sho"),
    "apply_patch_call": (ApplyPatchItem, "apc"),
    "apply_patch_call_output": (ApplyPatchOutputItem, "apco"),
    "tool_search_call": (ToolSearchItem, "tsc"),
    "tool_search_output": (ToolSearchOutputItem, "tso"),
    "additional_tools": (AdditionalToolsItem, "at"),
    "web_search_call": (WebSearchItem, "ws"),
    "file_search_call": (FileSearchItem, "fs"),
    "code_interpreter_call": (CodeInterpreterItem, "ci"),
    "image_generation_call": (ImageGenerationItem, "ig"),
    "computer_call": (ComputerCallItem, "cu"),
    "computer_call_output": (ComputerOutputItem, "cuo"),
    "mcp_list_tools": (McpListToolsItem, "mcpl"),
    "mcp_call": (McpCallItem, "mcp"),
    "mcp_approval_request": (McpApprovalRequestItem, "mcpr"),
    "mcp_approval_response": (McpApprovalResponseItem, "mcpa"),
    "compaction": (CompactionItem, "cmp"),
}

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class InputPart(msgspec.Struct, frozen=True):
    """A part of a content: text, or a picture, a sound or a file.

    `annotations` and `logprobs` stand in what a server wrote; no model reads them. Every part is a place from which a
    prompt is known, marked or not.
    """

    passed_over: ClassVar = fields_of(*get_args(Content), ReasoningText, SummaryText) | {
        "citations",
        "parsed",
        "prompt_cache_breakpoint",
    }

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | MediaLink | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: AudioData | None = None
    annotations: Any = None
    logprobs: Any = None


Parts = str | list[InputPart] | None


class InputItem(msgspec.Struct, frozen=True):
    """An item of any kind, which decides what must be there. An easy message has no `type`.

    `phase` is what another server says of its model's messages: whether one was the answer or words on the way to it.
    """

    passed_over: ClassVar = fields_of(*get_args(Item)) | {"caller", "parsed_arguments", "phase"}

    type: str | None = None
    id: Id | None = None
    role: str | None = None
    content: Parts = None
    status: Any = None
    call_id: Id | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Any = None
    input: str | None = None
    output: Any = None
    summary: list[InputPart] | None = None
    encrypted_content: str | None = None
    action: Any = None
    actions: Any = None
    operation: Any = None
    max_output_length: Any = None
    execution: Any = None
    tools: Any = None
    queries: Any = None
    results: Any = None
    container_id: Any = None
    code: Any = None
    outputs: Any = None
    result: Any = None
    revised_prompt: Any = None
    background: Any = None
    output_format: Any = None
    quality: Any = None
    size: Any = None
    pending_safety_checks: Any = None
    acknowledged_safety_checks: Any = None
    server_label: Any = None
    error: Any = None
    approval_request_id: Any = None
    approve: Any = None
    reason: Any = None


Input = str | Annotated[list[InputItem], msgspec.Meta(max_length=MAX_MESSAGES)]


def references_in(given: Input, path: str = "input") -> dict[str, str]:
    """The ids that a list of items at this path refers to, and where. A reference has an id and needs no type."""
    items = enumerate([] if isinstance(given, str) else given)
    return {item.id: f"{path}[{i}]" for i, item in items if item.id is not None and refers(item)}


def refers(item: InputItem) -> bool:
    """Whether it stands for an item that is kept."""
    return item.type == "item_reference" or (item.type is None and item.role is None and item.content is None)


def to_items(given: Input, known: Mapping[str, Item], path: str = "input") -> tuple[Item | None, ...]:
    """The items in their full form; None in the place of those that nobody here knows. `known` are the items that may
    be referred to, by their ids, `path` is where the list stands. Raises InvalidRequest."""
    if isinstance(given, str):
        return (MessageItem(new_id("msg"), "user", [InputText(given)]),)
    return tuple(
        (known.get(item.id or "") if refers(item) else None) or to_item(item, f"{path}[{i}]")
        for i, item in enumerate(given)
    )


def unknown_in(given: Input, items: Sequence[Item | None], path: str = "input") -> list[str]:
    """The paths of those that nobody here knows, with their types as they were sent."""
    if isinstance(given, str):
        return []
    pairs = enumerate(zip(given, items, strict=True))
    return [f"{path}[{i}].{sent.type}" for i, (sent, item) in pairs if item is None]


def to_item(given: InputItem, path: str) -> Item | None:
    """One item; `path` names it in a refusal. None for a kind that nobody here knows. Raises InvalidRequest."""
    match given.type or "message":
        case "message":
            return to_message_item(given, path)
        case "function_call":
            return FunctionCallItem(
                given.id or new_id("fc"),
                needed(given.call_id, f"{path}.call_id"),
                needed(given.name, f"{path}.name"),
                arguments_of(given, path),
                given.namespace or msgspec.UNSET,
            )
        case "function_call_output":
            output = output_of(given, path)
            return FunctionOutputItem(given.id or new_id("fco"), needed(given.call_id, f"{path}.call_id"), output)
        case "custom_tool_call_output":
            output = output_of(given, path)
            return CustomOutputItem(given.id or new_id("ctco"), needed(given.call_id, f"{path}.call_id"), output)
        case "reasoning":
            return to_reasoning_item(given, path)
        case "item_reference":
            message = f"`{path}.id`: the id of an item that is kept here is needed."
            raise InvalidRequest(message, f"{path}.id")
        case "compaction_summary":
            return as_sent(given, "compaction", path)
        case other:
            return as_sent(given, other, path) if other in ITEMS_AS_SENT else None


def as_sent(given: InputItem, type_: str, path: str) -> Item:
    """An item of which all that counts here is kept as it was sent. Raises InvalidRequest."""
    kind, prefix = ITEMS_AS_SENT[type_]
    names = [name for name in kind.__struct_fields__ if getattr(given, name) is not None]
    fields = {name: msgspec.to_builtins(getattr(given, name)) for name in names}
    if "call_id" in kind.__struct_fields__ and type_ == "local_shell_call":
        fields.setdefault("call_id", given.id)
    if type_ == "mcp_call":
        fields["arguments"] = arguments_of(given, path)
    try:
        item = msgspec.convert({"type": type_, "id": new_id(prefix), **fields}, kind)
    except msgspec.ValidationError as error:
        raise invalid(error, path) from None
    if isinstance(item, ToolSearchOutputItem | AdditionalToolsItem):
        return replace(item, tools=without_secrets(item.tools))
    return item


def invalid(error: msgspec.ValidationError, path: str) -> InvalidRequest:
    """The refusal of an item, by the path of what is wrong in it."""
    message, inner = explain(error)
    if inner is None:
        return InvalidRequest(f"`{path}`: {message}", path)
    where = f"{path}{'' if inner.startswith('[') else '.'}{inner}"
    return InvalidRequest(message.replace(f"`{inner}`", f"`{where}`", 1), where)


def arguments_of(given: InputItem, path: str) -> str:
    """A call's arguments as JSON text; some clients send the object itself. Raises InvalidRequest."""
    if given.arguments is None:
        raise InvalidRequest(f"`{path}.arguments` is missing.", f"{path}.arguments")
    if isinstance(given.arguments, str):
        return given.arguments
    return msgspec.json.encode(given.arguments).decode()


def output_of(given: InputItem, path: str) -> str | list[InputContent]:
    """What a function or a custom tool gave. Raises InvalidRequest."""
    where = f"{path}.output"
    try:
        output = content_of(msgspec.convert(given.output, Parts), where)
    except msgspec.ValidationError as error:
        raise invalid(error, where) from None
    return output if isinstance(output, str) else to_input(output, "tool", where)


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
    """Thoughts that come back; what another server sealed stays sealed. Raises InvalidRequest."""
    content = given.content or []
    thoughts = [content] if isinstance(content, str) else texts_of(content, f"{path}.content")
    if not thoughts and given.encrypted_content is not None:
        opened = unsealed(given.encrypted_content)
        thoughts = [opened] if opened is not None else []
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
    if part.type == "input_file":
        return to_input_file(part, where)
    if part.type not in MEDIA:
        return InputText(text_of(part, where))
    check_role(role, where)
    check_fields(part, part.type, FIELDS, where)
    if part.type == "input_audio":
        if part.input_audio is None:
            raise InvalidRequest(f"`{where}.input_audio` is missing.", f"{where}.input_audio")
        return InputAudio(part.input_audio)
    check_single(part, ("image_url", "file_id"), where)
    file_id = part.image_url.file_id if isinstance(part.image_url, MediaLink) else part.file_id
    if file_id is not None:
        return InputImage(file_id=file_id, detail=part.detail or "auto")
    if part.image_url is None:
        raise InvalidRequest(f"`{where}.image_url` is missing.", f"{where}.image_url")
    url, detail = read_link(part.image_url, f"{where}.image_url")
    return InputImage(url, detail=detail or part.detail or "auto")


def to_input_file(part: InputPart, where: str) -> InputFile:
    """A file. Raises InvalidRequest for one that is not there."""
    check_fields(part, part.type, FIELDS, where)
    check_single(part, ("file_url", "file_data", "file_id"), where)
    if part.file_id is None and part.file_url is None:
        needed(part.file_data, f"{where}.file_data")
    return InputFile(
        part.file_data or msgspec.UNSET,
        part.file_url or msgspec.UNSET,
        part.file_id or msgspec.UNSET,
        part.filename or msgspec.UNSET,
        part.detail or msgspec.UNSET,
    )


def check_single(part: InputPart, names: Sequence[str], where: str) -> None:
    """Raise InvalidRequest if more than one of these fields says where a file is."""
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) > 1:
        first, second = given[:2]
        raise InvalidRequest(f"`{where}.{first}` and `{second}` can't both be given.", f"{where}.{first}")


MEDIA = ("input_image", "input_audio")
TEXTS = ("input_text", "output_text", "reasoning_text", "summary_text")
FIELDS = {
    **dict.fromkeys(TEXTS, ("text",)),
    "refusal": ("refusal",),
    "input_image": ("image_url", "file_id", "detail"),
    "input_audio": ("input_audio",),
    "input_file": ("file_data", "file_url", "file_id", "filename", "detail"),
}
"""By a part's type: the fields that count in it."""


def texts_of(parts: list[InputPart], path: str) -> list[str]:
    """The words of every part. Raises InvalidRequest for a part that has none."""
    return [text_of(part, f"{path}[{i}]") for i, part in enumerate(parts)]


def text_of(part: InputPart, where: str) -> str:
    """The words of a part. Raises InvalidRequest if it has none."""
    if part.type in (*MEDIA, "input_file"):
        check_role("assistant", where)
    if part.type in FIELDS:
        check_fields(part, part.type, FIELDS, where)
    if part.type == "refusal":
        return needed(part.refusal, f"{where}.refusal")
    if part.type in TEXTS:
        return needed(part.text, f"{where}.text")
    allowed = "'input_text', 'output_text', 'input_image', 'input_audio' and 'input_file' are"
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
