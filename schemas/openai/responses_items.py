"""The items that `/v1/responses` is made of: what was said, thought, called and answered, in the API's own form."""

from __future__ import annotations

import uuid
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mlx_server.schemas.internal.media import AudioData
from mlx_server.schemas.openai.chat import ChosenLogprob
from mlx_server.schemas.openai.responses_tools import Field, FlatTool

Status = Literal["in_progress", "completed", "incomplete"]
Role = Literal["user", "system", "developer", "assistant"]


class InputText(msgspec.Struct, frozen=True, tag="input_text", tag_field="type"):
    """What a client said."""

    text: str


class InputImage(msgspec.Struct, frozen=True, tag="input_image", tag_field="type"):
    """A picture that a client showed, or the id of one that another server keeps; it is kept as it was sent."""

    image_url: str | UnsetType = UNSET
    file_id: str | UnsetType = UNSET
    detail: str = "auto"


class InputAudio(msgspec.Struct, frozen=True, tag="input_audio", tag_field="type"):
    """A sound that a client sent."""

    input_audio: AudioData


class InputFile(msgspec.Struct, frozen=True, tag="input_file", tag_field="type"):
    """A file in base64 or as a data URL, its URL, or the id of one that another server keeps; it is kept as it was
    sent."""

    file_data: str | UnsetType = UNSET
    file_url: str | UnsetType = UNSET
    file_id: str | UnsetType = UNSET
    filename: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


InputContent = InputText | InputImage | InputAudio | InputFile


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
    namespace: str | UnsetType = UNSET
    status: Status = "completed"


class FunctionOutputItem(msgspec.Struct, frozen=True, tag="function_call_output", tag_field="type"):
    """What a called function gave."""

    id: str
    call_id: str
    output: str | list[InputContent]
    status: Status = "completed"


class CustomCallItem(msgspec.Struct, frozen=True, tag="custom_tool_call", tag_field="type"):
    """A call of a custom tool, which takes a text."""

    id: str
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET
    status: Status = "completed"


class CustomOutputItem(msgspec.Struct, frozen=True, tag="custom_tool_call_output", tag_field="type"):
    """What a custom tool gave."""

    id: str
    call_id: str
    output: str | list[InputContent]
    status: Status = "completed"


class ExecAction(msgspec.Struct, frozen=True, tag="exec", tag_field="type"):
    """A program that is to be run."""

    command: list[str]
    env: dict[str, str] = {}
    timeout_ms: int | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    working_directory: str | UnsetType | None = UNSET


class LocalShellItem(msgspec.Struct, frozen=True, tag="local_shell_call", tag_field="type"):
    """A program to run on the client's computer."""

    id: str
    call_id: str
    action: ExecAction
    status: Status = "completed"


class LocalShellOutputItem(msgspec.Struct, frozen=True, tag="local_shell_call_output", tag_field="type"):
    """What the program wrote. Some clients name the call by `id` alone."""

    id: str
    output: str
    call_id: str | UnsetType = UNSET
    status: Status = "completed"


class ShellAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Lines for a shell."""

    commands: list[str]
    timeout_ms: int | None = None
    max_output_length: int | None = None


class ShellItem(msgspec.Struct, frozen=True, tag="shell_call", tag_field="type"):
    """Commands for a shell on the client's computer."""

    id: str
    call_id: str
    action: ShellAction
    status: Status = "completed"


class ShellExit(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a command ended: `exit` with a code, or `timeout`."""

    type: str
    exit_code: int | None = None


class ShellOutput(msgspec.Struct, frozen=True):
    """What one command gave."""

    stdout: str
    stderr: str
    outcome: ShellExit


class ShellOutputItem(msgspec.Struct, frozen=True, tag="shell_call_output", tag_field="type"):
    """What the commands of a shell gave."""

    id: str
    call_id: str
    output: list[ShellOutput]
    max_output_length: int | None = None
    status: Status = "completed"


class PatchOperation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be done to a file; only what deletes one has no `diff`."""

    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a change without a diff."""
        if self.diff is None and self.type != "delete_file":
            raise ValueError(f"{self.type!r} needs a `diff`")


class ApplyPatchItem(msgspec.Struct, frozen=True, tag="apply_patch_call", tag_field="type"):
    """A change of a file on the client's computer."""

    id: str
    call_id: str
    operation: PatchOperation
    status: Literal["in_progress", "completed"] = "completed"


class ApplyPatchOutputItem(msgspec.Struct, frozen=True, tag="apply_patch_call_output", tag_field="type"):
    """What became of a change."""

    id: str
    call_id: str
    status: Literal["completed", "failed"] = "completed"
    output: str | None = None


class ToolSearchItem(msgspec.Struct, frozen=True, tag="tool_search_call", tag_field="type"):
    """A search for tools: the client's where `execution` says so, else another server's."""

    id: str
    arguments: Any = None
    call_id: str | None = None
    execution: Literal["server", "client"] = "client"
    status: Status = "completed"


class ToolSearchOutputItem(msgspec.Struct, frozen=True, tag="tool_search_output", tag_field="type"):
    """The tools that a search has found; they may be called from then on."""

    id: str
    tools: list[FlatTool]
    call_id: str | None = None
    execution: Literal["server", "client"] = "client"
    status: Status = "completed"


class AdditionalToolsItem(msgspec.Struct, frozen=True, tag="additional_tools", tag_field="type"):
    """Tools that came in the middle of a conversation."""

    id: str
    tools: list[FlatTool]
    role: str = "developer"


class WebSearchItem(msgspec.Struct, frozen=True, tag="web_search_call", tag_field="type"):
    """A search of the web."""

    id: str
    action: Field = UNSET
    status: str = "completed"


class FileSearchItem(msgspec.Struct, frozen=True, tag="file_search_call", tag_field="type"):
    """A search of files."""

    id: str
    queries: list[str] = []
    results: Field = UNSET
    status: str = "completed"


class CodeInterpreterItem(msgspec.Struct, frozen=True, tag="code_interpreter_call", tag_field="type"):
    """A program that a model wrote, and what came of it."""

    id: str
    container_id: str = ""
    code: str | None = None
    outputs: Field = UNSET
    status: str = "completed"


class ImageGenerationItem(msgspec.Struct, frozen=True, tag="image_generation_call", tag_field="type"):
    """A picture that was made; `result` is its file in base64."""

    id: str
    result: str | None = None
    revised_prompt: str | UnsetType | None = UNSET
    action: Field = UNSET
    background: Field = UNSET
    output_format: Field = UNSET
    quality: Field = UNSET
    size: Field = UNSET
    status: str = "completed"


class ComputerCallItem(msgspec.Struct, frozen=True, tag="computer_call", tag_field="type"):
    """What is to be done with a computer's mouse and keyboard."""

    id: str
    call_id: str
    action: Field = UNSET
    actions: Field = UNSET
    pending_safety_checks: list[Any] = []
    status: str = "completed"


class Screenshot(msgspec.Struct, frozen=True):
    """What a computer's screen shows."""

    type: str = "computer_screenshot"
    image_url: str | UnsetType | None = UNSET
    file_id: str | UnsetType | None = UNSET


class ComputerOutputItem(msgspec.Struct, frozen=True, tag="computer_call_output", tag_field="type"):
    """What the screen shows afterwards."""

    id: str
    call_id: str
    output: Screenshot
    acknowledged_safety_checks: Field = UNSET
    status: str = "completed"


class McpListToolsItem(msgspec.Struct, frozen=True, tag="mcp_list_tools", tag_field="type"):
    """The tools of an MCP server that another server knows."""

    id: str
    server_label: str
    tools: list[Any]
    error: Field = UNSET


class McpCallItem(msgspec.Struct, frozen=True, tag="mcp_call", tag_field="type"):
    """A call of a tool of an MCP server, and what it gave."""

    id: str
    server_label: str
    name: str
    arguments: str
    output: str | None = None
    error: Any = None
    approval_request_id: Field = UNSET
    status: str = "completed"


class McpApprovalRequestItem(msgspec.Struct, frozen=True, tag="mcp_approval_request", tag_field="type"):
    """A question whether a tool of an MCP server may be called."""

    id: str
    server_label: str
    name: str
    arguments: str


class McpApprovalResponseItem(msgspec.Struct, frozen=True, tag="mcp_approval_response", tag_field="type"):
    """The answer to such a question."""

    id: str
    approval_request_id: str
    approve: bool
    reason: Field = UNSET


class CompactionItem(msgspec.Struct, frozen=True, tag="compaction", tag_field="type"):
    """What a conversation was made shorter to."""

    id: str
    encrypted_content: str


HostedItem = (
    WebSearchItem
    | FileSearchItem
    | CodeInterpreterItem
    | ImageGenerationItem
    | McpListToolsItem
    | McpCallItem
    | McpApprovalRequestItem
    | McpApprovalResponseItem
)
CallItem = FunctionCallItem | CustomCallItem | LocalShellItem | ShellItem | ApplyPatchItem | ToolSearchItem
OutputItem = (
    FunctionOutputItem
    | CustomOutputItem
    | LocalShellOutputItem
    | ShellOutputItem
    | ApplyPatchOutputItem
    | ToolSearchOutputItem
)
Item = (
    MessageItem
    | ReasoningItem
    | CallItem
    | OutputItem
    | AdditionalToolsItem
    | ComputerCallItem
    | ComputerOutputItem
    | CompactionItem
    | HostedItem
)


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
