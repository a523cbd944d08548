"""`/v1/responses`: what clients send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from mlx_server.schemas.internal.efforts import Effort, checked_effort
from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import ChatPrompt, GenerationRequest, Grammar, Limits, Template
from mlx_server.schemas.openai.chat import MAX_TOP_LOGPROBS
from mlx_server.schemas.openai.common import IDLE_STREAM, IDLE_USAGE, Count, SamplingFields, idle
from mlx_server.schemas.openai.responses_input import Id, Input, to_items, unknown_in
from mlx_server.schemas.openai.responses_items import AdditionalToolsItem, Item, ToolSearchOutputItem
from mlx_server.schemas.openai.responses_messages import refuse_strays, still_told, to_messages
from mlx_server.schemas.openai.responses_tools import FlatTool, Source, Toolbox, ToolChoice
from mlx_server.schemas.openai.structured import ANY_OBJECT, Schema, from_json
from mlx_server.schemas.parsing.unknown_fields import MAX_UNKNOWN

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
INCLUDABLE = (LOGPROBS, SEALED, "message.input_image.image_url", "computer_call_output.output.image_url")
MAX_METADATA = 16

# Known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {
    "conversation_id": (),
    "n": (1,),
    "performance_metrics": (False,),
    "prompt": (),
}

# Known, and whatever their value is, it changes nothing; with these it would change nothing elsewhere either.
IDLE: dict[str, tuple[Any, ...]] = {
    "access_programs": (),
    "background_options": (),
    "client_metadata": (),
    "context_management": ([],),
    "image": (),
    "moderation": (),
    "prompt_cache_options": ({"mode": "implicit"},),
    "prompt_cache_retention": ("in_memory",),
    "service_tier": ("auto", "default"),
}
IDLE_TEXT: dict[str, tuple[Any, ...]] = {"verbosity": ("medium",)}
IDLE_REASONING: dict[str, tuple[Any, ...]] = {
    "summary": ("auto",),
    "generate_summary": ("auto",),
    "context": ("auto",),
    "mode": ("standard",),
}

PREVIOUS = "previous_response_id"
RENAMED = {"max_tokens": "max_output_tokens", "response_format": "text.format"}


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the answer must be; a schema is always enforced, `strict` or not."""

    type: Literal["text", "json_schema", "json_object"]
    name: str | None = None
    description: str | None = None
    schema: Schema | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, frozen=True):
    """The answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningConfig(msgspec.Struct, frozen=True):
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
    access_programs: Any = None
    background_options: Any = None
    client_metadata: Any = None
    context_management: Any = None
    image: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None

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

    def idle(self) -> list[str]:
        """The paths of what is known and changes nothing."""
        included = [f"include[{i}]" for i, what in enumerate(self.include or ()) if what not in INCLUDABLE]
        return [
            *idle(self, IDLE),
            *idle(self.text, IDLE_TEXT, "text."),
            *idle(self.reasoning, IDLE_REASONING, "reasoning."),
            *idle(self.stream_options, {**IDLE_STREAM, **IDLE_USAGE}, "stream_options."),
            *included,
        ]

    def check(self) -> None:
        """Raise InvalidRequest for what stands in the wrong place or has a value that is not served."""
        for name, right in RENAMED.items():
            if getattr(self, name) is not None:
                raise InvalidRequest(f"`{name}` is not a parameter of responses: `{right}` is.", name)
        text = self.text or TextConfig()
        if text.format is not None and text.format.type != "json_schema" and text.format.schema is not None:
            raise InvalidRequest("`text.format.schema` needs the type 'json_schema'.", "text.format.schema")
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
        self.earlier = earlier
        """What was said before."""
        items = to_items(given.input or [], known or {})
        self._placed = [(f"input[{i}]", item) for i, item in enumerate(items) if item is not None]
        self._unknown = unknown_in(given.input or [], items)
        if given.previous_response_id is not None or given.conversation is not None:
            refuse_strays(earlier, self._placed)
        self.tools = Toolbox(given.tools or (), tools_among(earlier, self._placed))
        """What may be called."""

    @property
    def items(self) -> tuple[Item, ...]:
        """What was said now."""
        return tuple(item for _, item in self._placed)

    @property
    def model(self) -> str | None:
        """The name that the client gave the model."""
        return self.given.model

    @property
    def stream(self) -> bool | None:
        """Whether the answer is wanted as a stream."""
        return self.given.stream

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        given = self.given
        tools, tool_use, no_choices = self.tools.chosen(
            given.tool_choice, parallel=given.parallel_tool_calls is not False
        )
        asked, param = given.reasoning.effort if given.reasoning else None, "reasoning.effort"
        effort, unknown = checked_effort(asked, param)
        template = Template(arguments=given.chat_template_kwargs or {}, effort=effort, effort_param=param)
        most = given.max_output_tokens or default_max_tokens
        messages, unread = to_messages(given.instructions, still_told(self.earlier), self._placed, self.tools)
        if not any(message.role != "system" for message in messages) and (unread or self._unknown or not self._placed):
            raise InvalidRequest("`input` is empty: at least one item that can be read is needed.", "input")
        drops_oldest = given.truncation == "auto"
        return GenerationRequest(
            prompts=(ChatPrompt(messages, tools, template, param="input", drops_oldest=drops_oldest),),
            max_tokens=most,
            sampling=given.sampling(),
            limits=given.limits(most),
            logprobs=given.alternatives(),
            grammar=given.constraint(given.text_grammar()),
            tool_use=tool_use,
            thinking_budget=given.thinking_budget,
            adapter=given.adapters,
            draft=given.draft(),
            speculate=given.speculate,
            use_cache=given.use_cache is not False,
            salt=given.cache_salt or "",
            conversation=given.prompt_cache_key or "",
            ignored=(*given.idle(), *unknown, *self.tools.ignored, *no_choices, *self._unknown, *unread)[:MAX_UNKNOWN],
            progress=given.include_progress(),
        )


class WarmUp(Turn):
    """A request whose prompt is only read, so that it is known when it is gone on from."""

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type, for the fewest tokens that can be asked for. Raises InvalidRequest."""
        generation = super().to_generation(default_max_tokens)
        return msgspec.structs.replace(generation, max_tokens=1, limits=Limits(), logprobs=None, grammar=None)


def tools_among(earlier: tuple[Item, ...], placed: list[tuple[str, Item]]) -> list[Source]:
    """The tools that items of a conversation bring."""
    items = [*((PREVIOUS, item) for item in earlier), *placed]
    return [
        Source(item.tools, f"{path}.tools")
        for path, item in items
        if isinstance(item, ToolSearchOutputItem | AdditionalToolsItem)
    ]


def check_metadata(given: dict[str, Any]) -> None:
    """OpenAI's limits. Raises InvalidRequest."""
    if len(given) > MAX_METADATA:
        raise InvalidRequest(f"`metadata`: at most {MAX_METADATA} pairs are allowed, got {len(given)}.", "metadata")
    for key, value in given.items():
        if not isinstance(value, str) or len(value) > 512 or len(key) > 64:
            message = f"`metadata.{key}`: keys of up to 64 and texts of up to 512 characters are allowed."
            raise InvalidRequest(message, f"metadata.{key}")


decoder = msgspec.json.Decoder(ResponsesRequest)
