"""`/v1/responses`: what clients send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Grammar, Limits, Template, Tool, ToolUse
from mlx_server.schemas.messages import TokensOf
from mlx_server.schemas.openai import Count, SamplingFields
from mlx_server.schemas.openai_chat import MAX_TOP_LOGPROBS, Effort
from mlx_server.schemas.openai_responses_input import Id, Input, to_items
from mlx_server.schemas.openai_responses_items import Item, calls_in, to_messages
from mlx_server.schemas.openai_structured import ANY_OBJECT, Schema, from_json
from mlx_server.schemas.openai_tools import FunctionSpec, check_given, named_use, tuple_of_functions, use_by_word

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
INCLUDABLE = (LOGPROBS, SEALED)
MAX_METADATA = 16

# Known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {
    "access_programs": (),
    "context_management": ([],),
    "conversation_id": (),
    "image": (),
    "moderation": (),
    "n": (1,),
    "performance_metrics": (False,),
    "prompt": (),
    "prompt_cache_options": ({"mode": "implicit"},),
    "prompt_cache_retention": ("in_memory",),
    "service_tier": ("auto", "default"),
}

RENAMED = {"max_tokens": "max_output_tokens", "response_format": "text.format"}


class FlatTool(msgspec.Struct, frozen=True):
    """A tool; only functions are served. It is described flat here, not under `function`."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChoiceObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one function to call, or the few that may be."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[FlatTool] | None = None


ToolChoice = Literal["none", "auto", "required"] | ChoiceObject


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the answer must be; a schema is always enforced, `strict` or not."""

    type: Literal["text", "json_schema", "json_object"]
    name: str | None = None
    description: str | None = None
    schema: Schema | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a model shall think. Its thoughts are shown as they are, so that there is no summary to choose."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class ConversationRef(msgspec.Struct, frozen=True):
    """A conversation by its id."""

    id: Id


Truncation = Literal["auto", "disabled"]


class ResponsesRequest(SamplingFields, frozen=True, kw_only=True):
    """The body of a request for a response."""

    input: Input | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: Count | None = None  # bounds calls of a server's own tools, and there are none
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    include: list[str] | None = None
    tools: list[FlatTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    thinking_budget: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    previous_response_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    conversation: Id | ConversationRef | None = None
    truncation: Truncation | None = None
    prompt_cache_key: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    store: bool | None = None
    background: bool | None = None

    def wants(self, what: str) -> bool:
        """Whether `include` names it."""
        return what in (self.include or ())

    @property
    def conversation_ref(self) -> ConversationRef | None:
        """The conversation that the response belongs to."""
        return ConversationRef(self.conversation) if isinstance(self.conversation, str) else self.conversation

    def alternatives(self) -> int | None:
        """How many alternatives are reported for each token; None for no report. Raises InvalidRequest."""
        if self.wants(LOGPROBS):
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise InvalidRequest(f"`top_logprobs` needs '{LOGPROBS}' in `include`.", "top_logprobs")
        return None

    def text_grammar(self) -> Grammar | None:
        """What `text.format` asks for. Raises InvalidRequest where a schema is missing or out of place."""
        wanted = self.text.format if self.text else None
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return Grammar("json_schema", ANY_OBJECT, "text.format")
        if wanted.schema is None:
            raise InvalidRequest("`text.format.schema` is missing.", "text.format.schema")
        return from_json(wanted.schema, "text.format.schema")

    def use_of_tools(self) -> tuple[tuple[Tool, ...], ToolUse]:
        """The tools that take part, and which of them may or must be called. Raises InvalidRequest."""
        tools = to_tools(self.tools)
        use, names = to_tool_use(self.tool_choice, self.parallel_tool_calls is not False, tools)
        return tuple(tool for tool in tools if tool.name in names), use

    def check(self) -> None:
        """Raise InvalidRequest for what stands in the wrong place or has a value that is not served."""
        for name, right in RENAMED.items():
            if getattr(self, name) is not None:
                raise InvalidRequest(f"`{name}` is not a parameter of responses: `{right}` is.", name)
        for i, what in enumerate(self.include or ()):
            allow(what, INCLUDABLE, f"include[{i}]")
        text, reasoning = self.text or TextConfig(), self.reasoning or ReasoningConfig()
        allow(text.verbosity, ("medium",), "text.verbosity")
        if text.format is not None and text.format.type != "json_schema" and text.format.schema is not None:
            raise InvalidRequest("`text.format.schema` needs the type 'json_schema'.", "text.format.schema")
        allow(reasoning.summary, ("auto",), "reasoning.summary")
        allow(reasoning.generate_summary, ("auto",), "reasoning.generate_summary")
        allow(reasoning.context, ("auto",), "reasoning.context")
        allow(reasoning.mode, ("standard",), "reasoning.mode")
        check_metadata(self.metadata or {})
        self.include_usage()
        if self.conversation is not None and self.previous_response_id is not None:
            message = "`conversation` can't be used with `previous_response_id`: one of them says what was said before."
            raise InvalidRequest(message, "conversation")
        if self.background and self.store is False:
            raise InvalidRequest("`background` needs `store`: there is no other way to get the answer.", "store")


class Turn:
    """A request with what was said before it: all that an answer needs. Raises InvalidRequest."""

    def __init__(
        self, given: ResponsesRequest, earlier: tuple[Item, ...] = (), known: Mapping[str, Item] | None = None
    ) -> None:
        """`known` are the items that the input refers to, by their ids."""
        given.check()
        self.given = given
        self.items = to_items(given.input or [], calls_in(earlier), known or {})
        self.earlier = earlier
        """What was said before."""
        if not self.items and not earlier:
            raise InvalidRequest("`input` is empty: at least one item is needed.", "input")

    @property
    def model(self) -> str | None:
        """The name that the client gave the model."""
        return self.given.model

    @property
    def stream(self) -> bool | None:
        """Whether the answer is wanted as a stream."""
        return self.given.stream

    def question(self) -> TokensOf:
        """How many tokens its prompt has. Raises InvalidRequest."""
        return TokensOf(*self._prompt(), want="count")

    def _prompt(self) -> tuple[ChatPrompt, ToolUse]:
        given = self.given
        tools, tool_use = given.use_of_tools()
        effort = given.reasoning.effort if given.reasoning else None
        template = Template(arguments=given.chat_template_kwargs or {}, effort=effort)
        messages = to_messages(given.instructions, self.earlier, self.items)
        drops_oldest = given.truncation == "auto"
        return ChatPrompt(messages, tools, template, param="input", drops_oldest=drops_oldest), tool_use

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        given = self.given
        prompt, tool_use = self._prompt()
        most = given.max_output_tokens or default_max_tokens
        return GenerationRequest(
            prompts=(prompt,),
            max_tokens=most,
            sampling=given.sampling(),
            limits=given.limits(most),
            logprobs=given.alternatives(),
            grammar=given.constraint(given.text_grammar()),
            tool_use=tool_use,
            thinking_budget=given.thinking_budget,
            adapter=given.adapters,
            draft=given.draft(),
            use_cache=given.use_cache is not False,
            conversation=given.prompt_cache_key or "",
        )


class WarmUp(Turn):
    """A request whose prompt is only read, so that it is known when it is gone on from."""

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type, for the fewest tokens that can be asked for. Raises InvalidRequest."""
        generation = super().to_generation(default_max_tokens)
        return msgspec.structs.replace(generation, max_tokens=1, limits=Limits(), logprobs=None, grammar=None)


def allow(value: str | None, allowed: Iterable[str], path: str) -> None:
    """Raise InvalidRequest for a value that is neither null nor one of these."""
    if value is not None and value not in allowed:
        names = " and ".join(repr(name) for name in allowed)
        raise InvalidRequest(f"`{path}`: {value!r} is not supported; {names} is.", path, "unsupported_parameter")


def check_metadata(given: dict[str, Any]) -> None:
    """OpenAI's limits. Raises InvalidRequest."""
    if len(given) > MAX_METADATA:
        raise InvalidRequest(f"`metadata`: at most {MAX_METADATA} pairs are allowed, got {len(given)}.", "metadata")
    for key, value in given.items():
        if not isinstance(value, str) or len(value) > 512 or len(key) > 64:
            message = f"`metadata.{key}`: keys of up to 64 and texts of up to 512 characters are allowed."
            raise InvalidRequest(message, f"metadata.{key}")


def to_tools(given: list[FlatTool] | None) -> tuple[Tool, ...]:
    """The inside types. Raises InvalidRequest for what is no function, a bad name, or a name given twice."""
    functions = []
    for i, tool in enumerate(given or ()):
        allow(tool.type, ("function",), f"tools[{i}].type")
        if tool.name is None:
            raise InvalidRequest(f"`tools[{i}].name` is missing.", f"tools[{i}].name")
        functions.append((FunctionSpec(tool.name, tool.description, tool.parameters, tool.strict), f"tools[{i}]"))
    return tuple_of_functions(functions, "tools")


def to_tool_use(choice: ToolChoice | None, parallel: bool, tools: tuple[Tool, ...]) -> tuple[ToolUse, set[str]]:
    """Which tools may or must be called, and the names of those that take part. Raises InvalidRequest."""
    names = {tool.name for tool in tools}
    if not isinstance(choice, ChoiceObject):
        return use_by_word(choice, parallel, tools), names
    check_given(tools)
    allow(choice.type, ("function", "allowed_tools"), "tool_choice.type")
    if choice.type == "function":
        if choice.name is None:
            raise InvalidRequest("`tool_choice.name` is missing.", "tool_choice.name")
        return named_use(choice.name, names, "tool_choice.name"), names
    allowed = {tool.name for tool in choice.tools or () if tool.name is not None}
    if not allowed or not allowed <= names:
        raise InvalidRequest("`tool_choice.tools` must name some of `tools`.", "tool_choice.tools")
    return ToolUse(choice.mode or "auto", parallel=parallel), allowed


decoder = msgspec.json.Decoder(ResponsesRequest)
