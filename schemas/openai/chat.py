"""`/v1/chat/completions`: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from mlx_server.schemas.internal.billing_line import is_billing_line, without_billing_line
from mlx_server.schemas.internal.efforts import Effort, checked_effort
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    NO_CALL,
    ChatPrompt,
    Document,
    FunctionCall,
    GenerationRequest,
    Media,
    Message,
    Template,
    ToolUse,
)
from mlx_server.schemas.internal.media import (
    PART_FIELDS,
    PART_KINDS,
    PART_TYPES,
    MediaFields,
    check_fields,
    check_role,
    file_address,
    needed,
    to_media,
)
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai.common import CompletionFields, Count, PerformanceMetrics, PromptLogprobs, Usage
from mlx_server.schemas.openai.custom_tools import as_arguments
from mlx_server.schemas.openai.files import document_of
from mlx_server.schemas.openai.tools import (
    FunctionChoice,
    FunctionSpec,
    ToolChoice,
    ToolSpec,
    names_of,
    to_function_use,
    to_functions,
    to_tool_use,
    to_tools,
)

MAX_MESSAGES = 10_000
MAX_TOP_LOGPROBS = 20
MAX_TEMPLATE_CHARS = 1 << 17
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SYSTEM_ROLES = ("system", "developer")
OF_ANSWERS = ("refusal", "thinking")
"""Parts that only an assistant's message has."""


class FileData(msgspec.Struct, frozen=True):
    """A file in base64 or as a data URL."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class ContentPart(MediaFields, frozen=True, kw_only=True):
    """One part of a message's content: text, or a picture, a sound, a film or a file; of an answer that is sent back,
    also a refusal or a thought. Texts may have the names that responses give them."""

    passed_over: ClassVar = frozenset({"annotations", "citations", "logprobs", "prompt_cache_breakpoint", "signature"})

    type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(PART_TYPES)})]
    text: str | None = None
    refusal: str | None = None
    thinking: str | None = None
    file: FileData | None = None


class FunctionBody(msgspec.Struct, omit_defaults=True):
    """A function call's name and arguments; a stream's later parts have no name."""

    passed_over: ClassVar = frozenset({"parsed_arguments"})

    arguments: str
    name: str | None = None


class CustomBody(msgspec.Struct, omit_defaults=True):
    """A custom tool's name and the text for it; a stream's later parts have no name."""

    input: str
    name: str | None = None


class ToolCallObject(msgspec.Struct):
    """A call in an answer, and in the messages that clients send back; the field that its type names tells it."""

    passed_over: ClassVar = frozenset({"caller", "index", "status"})

    id: str
    type: Literal["function", "custom"] = "function"
    function: FunctionBody | msgspec.UnsetType = msgspec.UNSET
    custom: CustomBody | msgspec.UnsetType = msgspec.UNSET


class ChatMessage(msgspec.Struct, frozen=True):
    """A message as clients send it, with what answers and SDKs' objects carry when they are sent back."""

    passed_over: ClassVar = frozenset(
        {"citations", "id", "logprobs", "parsed", "provider_specific_fields", "status", "type"}
    )

    role: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(ROLES)})]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallObject] | None = None
    tool_call_id: str | None = None
    function_call: FunctionBody | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    audio: Any = None
    annotations: Any = None


class ChatRequest(CompletionFields, frozen=True, kw_only=True):
    """The body of a chat completion."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(max_length=MAX_MESSAGES, extra_json_schema={"minItems": 1})]
    max_completion_tokens: Count | None = None
    logprobs: bool | Annotated[int, msgspec.Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionSpec] | None = None
    function_call: FunctionChoice | None = None
    reasoning_effort: Effort | None = None
    thinking_budget: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    thinking_token_budget: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] | None = None
    chat_template: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEMPLATE_CHARS)] | None = None
    chat_template_args: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    use_default_chat_template: bool | None = None
    role_mapping: dict[str, str] | None = None
    prompt_cache_key: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        prompt, tool_use = self._prompt()
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise InvalidRequest(
                "`max_tokens` is the old name of `max_completion_tokens`: give one of them, or the same number.",
                "max_tokens",
            )
        _, unknown = checked_effort(self.reasoning_effort, "reasoning_effort")
        most = self.max_completion_tokens or self.max_tokens or default_max_tokens
        return GenerationRequest(
            prompts=(prompt,),
            max_tokens=most,
            n=self.n or 1,
            sampling=self.sampling(),
            limits=self.limits(most),
            logprobs=self.alternatives(),
            prompt_logprobs=self.prompt_alternatives(),
            token_ids=bool(self.return_token_ids),
            grammar=self.constraint(),
            tool_use=tool_use,
            thinking_budget=self._budget(),
            budget_param="thinking_budget" if self.thinking_token_budget is None else "thinking_token_budget",
            adapter=self.adapters,
            draft=self.draft(),
            speculate=self.speculate,
            prediction=self.predicted(),
            use_cache=self.use_cache is not False,
            salt=self.cache_salt or "",
            conversation=self.conversation_id or self.prompt_cache_key or "",
            ignored=(*self.idle(reports=self.wants_logprobs()), *unknown, *billing_lines(self.messages)),
            announce=self.continuous_usage(),
            progress=self.include_progress(),
        )

    def custom_tools(self) -> set[str]:
        """The names of the tools that take a text."""
        return {name for kind, name in names_of(self.tools or ()) if kind == "custom"}

    def wants_logprobs(self) -> bool:
        """Whether the answer reports its tokens' log-probabilities."""
        return self.logprobs is not None and self.logprobs is not False

    def alternatives(self) -> int | None:
        """How many alternatives are reported for each token; None for no report. Raises InvalidRequest."""
        if not self.wants_logprobs():
            if self.top_logprobs:
                raise InvalidRequest("`top_logprobs` needs `logprobs` to be true.", "top_logprobs")
            return None
        if self.top_logprobs is not None:
            return self.top_logprobs
        return 0 if self.logprobs is True else self.logprobs

    def _prompt(self) -> tuple[ChatPrompt, ToolUse]:
        if not self.messages:
            raise InvalidRequest("`messages` is empty: at least one message is needed.", "messages")
        messages = to_messages(self.messages)
        if self.continue_final_message and messages[-1].role != "assistant":
            raise InvalidRequest(
                "`continue_final_message` needs the last message to be the assistant's.", "continue_final_message"
            )
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(
                "`continue_final_message` goes on with the last turn, `add_generation_prompt` begins one: give one.",
                "add_generation_prompt",
            )
        tools, tool_use = self._tools()
        opens = self.add_generation_prompt is not False
        return ChatPrompt(messages, tools, self._template(), bool(self.continue_final_message), opens), tool_use

    def _budget(self) -> int | None:
        """How many tokens the reasoning may have, by either name. vLLM's -1 is no bound."""
        if self.thinking_token_budget is None:
            return self.thinking_budget
        if self.thinking_budget not in (None, self.thinking_token_budget):
            raise InvalidRequest(
                "`thinking_token_budget` is another name of `thinking_budget`: give one of them, or the same number.",
                "thinking_token_budget",
            )
        return None if self.thinking_token_budget < 0 else self.thinking_token_budget

    def _tools(self) -> tuple[tuple[Any, ...], ToolUse]:
        if self.functions is not None:
            if self.tools is not None:
                raise InvalidRequest("`functions` and `tools` can't both be given; use `tools`.", "functions")
            if self.tool_choice not in (None, "auto"):
                raise InvalidRequest(
                    "`tool_choice` goes with `tools`; `functions` have `function_call`.", "tool_choice"
                )
            functions = to_functions(self.functions)
            return functions, to_function_use(self.function_call, functions)
        if self.function_call not in (None, "auto") and (self.tools or self.function_call != "none"):
            raise InvalidRequest("`function_call` is only allowed when `functions` are given.", "function_call")
        tools = to_tools(self.tools)
        tool_use, names = to_tool_use(self.tool_choice, self.parallel_tool_calls, self.tools or ())
        return tuple(tool for tool in tools if tool.name in names), tool_use

    def _template(self) -> Template:
        if self.role_mapping is not None and self.chat_template is not None:
            raise InvalidRequest("`role_mapping` takes a template's place: leave `chat_template` out.", "role_mapping")
        arguments = {**(self.chat_template_args or {}), **(self.chat_template_kwargs or {})}
        effort, _ = checked_effort(self.reasoning_effort, "reasoning_effort")
        return Template(self.chat_template, self.role_mapping, self.use_default_chat_template, arguments, effort)


def to_messages(given: list[ChatMessage]) -> tuple[Message, ...]:
    """The inside messages. A result that names no call is the next one's that waits for one; of one whose call is not
    there, as clients cut conversations, the user tells. A message of `billing_lines` alone is none. Raises
    InvalidRequest."""
    waiting: dict[str, None] = {}
    called: set[str] = set()
    messages = []
    for i, sent in enumerate(given):
        heard = without_billing(sent)
        message = to_message(heard, f"messages[{i}]")
        if heard != sent and not (message.content or message.documents):
            continue
        if sent.role == "tool":
            id_ = sent.tool_call_id or next(iter(waiting), None)
            message = replace(message, tool_call_id=id_) if id_ in called else without_call(message)
            waiting.pop(id_ or "", None)
        messages.append(message)
        waiting |= {call.id: None for call in message.tool_calls if call.id}
        called |= waiting.keys()
    return tuple(messages)


def without_billing(sent: ChatMessage) -> ChatMessage:
    """A message of the system without what Claude Code tells Anthropic in it, which proxies pass on."""
    if sent.role not in SYSTEM_ROLES or sent.content is None:
        return sent
    if isinstance(sent.content, str):
        return replace(sent, content=without_billing_line(sent.content))
    parts = [replace(part, text=without_billing_line(part.text)) if part.text else part for part in sent.content]
    return replace(sent, content=parts)


def billing_lines(given: list[ChatMessage]) -> list[str]:
    """The paths of the system's texts that are nothing else."""
    paths = []
    for i, sent in enumerate(given):
        if sent.role not in SYSTEM_ROLES:
            continue
        path = f"messages[{i}].content"
        if isinstance(sent.content, str):
            texts = {path: sent.content}
        else:
            texts = {f"{path}[{j}]": part.text or "" for j, part in enumerate(sent.content or ())}
        paths += [where for where, text in texts.items() if is_billing_line(text)]
    return paths


def without_call(result: Message) -> Message:
    """What a tool gave, as the user tells it."""
    before = f"{NO_CALL}\n"
    return Message(
        "user",
        before + result.content,
        media=tuple(replace(one, at=one.at + len(before), stray=True) for one in result.media),
        documents=tuple(replace(one, at=one.at + len(before), stray=True) for one in result.documents),
    )


def to_message(message: ChatMessage, path: str) -> Message:
    """One inside message; `path` names it in a refusal. Raises InvalidRequest."""
    if message.role not in ROLES:
        raise InvalidRequest(
            f"`{path}.role`: {message.role!r} is not supported; allowed are {', '.join(ROLES)}.",
            f"{path}.role",
        )
    if message.audio:
        raise InvalidRequest(f"`{path}.audio` is not supported by this server.", f"{path}.audio")
    for field in ("tool_calls", "function_call"):
        if getattr(message, field) and message.role != "assistant":
            raise InvalidRequest(f"`{path}.{field}`: only an assistant calls functions.", f"{path}.{field}")
    if message.tool_call_id is not None and message.role != "tool":
        raise InvalidRequest(f"`{path}.tool_call_id` belongs to messages of role 'tool'.", f"{path}.tool_call_id")
    if message.role == "function" and message.name is None:
        raise InvalidRequest(f"`{path}.name` is missing: it says which function this is the result of.", f"{path}.name")
    # Clients that leave empty fields out say so that a tool gave nothing.
    if message.content is None and message.role not in ("assistant", "tool", "function"):
        raise InvalidRequest(f"`{path}.content` is missing.", f"{path}.content")
    text, media, documents = to_content(message.content, message.role, f"{path}.content")
    return Message(
        role={"developer": "system", "function": "tool"}.get(message.role, message.role),
        content=text,
        name=message.name,
        reasoning=message.reasoning_content or message.reasoning or thoughts_in(message.content),
        tool_calls=calls_of(message, path),
        tool_call_id=message.tool_call_id,
        media=media,
        documents=documents,
    )


def calls_of(message: ChatMessage, path: str) -> tuple[FunctionCall, ...]:
    """The calls of an assistant's message, the deprecated single one too. Raises InvalidRequest without a name."""
    calls = [call_of(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ())]
    if (old := message.function_call) is not None:
        calls.append(FunctionCall("", name_of(old.name, f"{path}.function_call"), old.arguments))
    return tuple(calls)


def call_of(call: ToolCallObject, path: str) -> FunctionCall:
    """A call as the model made it. Raises InvalidRequest."""
    where = f"{path}.{call.type}"
    if call.type == "custom" and call.custom:
        return FunctionCall(call.id, name_of(call.custom.name, where), as_arguments(call.custom.input))
    if call.type == "function" and call.function:
        return FunctionCall(call.id, name_of(call.function.name, where), call.function.arguments)
    raise InvalidRequest(f"`{where}` is missing.", where)


def name_of(name: str | None, where: str) -> str:
    """The name. Raises InvalidRequest if it is missing."""
    if not name:
        raise InvalidRequest(f"`{where}.name` is missing.", f"{where}.name")
    return name


def to_content(
    content: str | list[ContentPart] | None, role: str, path: str
) -> tuple[str, tuple[Media, ...], tuple[Document, ...]]:
    """The text of a message's content, and what has its place in it. Raises InvalidRequest for any other part."""
    if content is None or isinstance(content, str):
        return content or "", (), ()
    text, media, documents = "", [], []
    for i, part in enumerate(content):
        where = f"{path}[{i}]"
        if part.type in PART_FIELDS:
            check_fields(part, part.type, PART_FIELDS, where)
        if part.type in PART_KINDS:
            check_role(role, where)
            media.append(to_media(part.type, part, len(text), where))
        elif part.type == "file":
            text, document = to_document(part.file, text, role, where)
            documents.append(document)
        else:
            text += said_in(part, role, where)
    return text, tuple(media), tuple(documents)


def said_in(part: ContentPart, role: str, where: str) -> str:
    """The text of a part; a thought is none. Raises InvalidRequest for what has none, or is not the role's."""
    if part.type not in PART_FIELDS or (part.type in OF_ANSWERS and role != "assistant"):
        allowed = ", ".join(kind for kind in PART_TYPES if kind not in OF_ANSWERS or role == "assistant")
        message = f"`{where}.type`: {part.type[:64]!r} is not supported; allowed are {allowed}."
        raise InvalidRequest(message, f"{where}.type")
    [field] = PART_FIELDS[part.type]
    text: str | None = getattr(part, field)
    if text is None:
        raise InvalidRequest(f"`{where}.{field}` is missing.", f"{where}.{field}")
    return "" if part.type == "thinking" else text


def thoughts_in(content: str | list[ContentPart] | None) -> str | None:
    """The thoughts that stand among the parts of an answer; None without any."""
    parts = content if isinstance(content, list) else []
    return "\n\n".join(part.thinking for part in parts if part.type == "thinking" and part.thinking) or None


def to_document(file: FileData | None, before: str, role: str, where: str) -> tuple[str, Document]:
    """The text so far with what stands round a file, and the file in it. Raises InvalidRequest."""
    if role == "assistant":
        check_role(role, where)
    if file is None:
        raise InvalidRequest(f"`{where}.file` is missing.", f"{where}.file")
    if file.file_id is not None:
        path = f"{where}.file.file_id"
        return document_of(file_address(file.file_id), file.filename, before, path)
    data = needed(file.file_data, f"{where}.file.file_data")
    return document_of(data, file.filename, before, f"{where}.file.file_data")


class Logprob(msgspec.Struct, frozen=True):
    """A token that might have been chosen; in nats."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(msgspec.Struct, frozen=True):
    """A token of the answer, and the most probable ones in its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[Logprob]


class Logprobs(msgspec.Struct, frozen=True):
    """The log-probabilities of the tokens that a choice or a chunk holds."""

    content: list[ChosenLogprob]
    refusal: None = None


Optional = msgspec.UnsetType


class AssistantMessage(msgspec.Struct):
    """The answer's message; reasoning has two names in use."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    reasoning_content: str | Optional = msgspec.UNSET
    reasoning: str | Optional = msgspec.UNSET
    tool_calls: list[ToolCallObject] | Optional = msgspec.UNSET
    function_call: FunctionBody | Optional = msgspec.UNSET


class Choice(msgspec.Struct, frozen=True):
    """One answer to a request."""

    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: Logprobs | None = None
    token_ids: list[int] | Optional = msgspec.UNSET


class ChatCompletion(msgspec.Struct, frozen=True):
    """A whole answer; `created` in seconds since the epoch."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | Optional = msgspec.UNSET
    prompt_logprobs: PromptLogprobs | Optional = msgspec.UNSET
    conversation_id: str | Optional = msgspec.UNSET
    performance_metrics: PerformanceMetrics | Optional = msgspec.UNSET


class ToolCallDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a call: the first has the id and the name."""

    index: int
    id: str | None = None
    type: Literal["function", "custom"] | None = None
    function: FunctionBody | None = None
    custom: CustomBody | None = None


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionBody | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """One choice's part of a chunk."""

    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | Optional = msgspec.UNSET


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str | None = None
    prompt_token_ids: list[int] | Optional = msgspec.UNSET
    usage: Usage | Optional | None = msgspec.UNSET
    conversation_id: str | Optional = msgspec.UNSET
    performance_metrics: PerformanceMetrics | Optional = msgspec.UNSET
    progress: PromptProgress | Optional = msgspec.UNSET


decoder = msgspec.json.Decoder(ChatRequest)
