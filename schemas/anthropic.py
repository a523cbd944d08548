"""Anthropic's `/v1/messages` and `/v1/messages/count_tokens`: what clients send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.anthropic_messages import CacheControl, MessageParam, TextParam, to_messages
from mlx_server.schemas.anthropic_tools import ToolChoice, ToolParam, to_tool_use, to_tools
from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Grammar, Limits, Sampling, Template, ToolUse
from mlx_server.schemas.openai import MAX_STOP_CHARS, MAX_STOPS, Count, Probability
from mlx_server.schemas.openai_chat import MAX_MESSAGES
from mlx_server.schemas.openai_structured import check_size

# Parameters that are known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {
    "container": (),
    # To clear nothing is what this server always does.
    "context_management": ({}, {"edits": []}, {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
    "diagnostics": (),
    "inference_geo": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "user_profile_id": (),
}


class Thinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the model reasons before it answers, for at most how many tokens; `adaptive` leaves it to the model."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON schema that the answer's text follows; it is always enforced."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much effort the model makes, and the format of its answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct, frozen=True):
    """Who asks, in the client's own terms; nothing depends on it."""

    user_id: str | None = None


class PromptFields(msgspec.Struct, frozen=True, kw_only=True):
    """What both endpoints take: everything that the prompt is made of. `null` everywhere means not given."""

    messages: Annotated[list[MessageParam], Meta(max_length=MAX_MESSAGES)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    system: str | list[TextParam] | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: CacheControl | None = None

    def prompt(self) -> tuple[ChatPrompt, ToolUse]:
        """The conversation, and which of its tools may be called. Raises InvalidRequest."""
        messages = to_messages(self.messages, self.system)
        tools = to_tools(self.tools)
        effort = self.output_config.effort if self.output_config else None
        template = Template(effort=effort, thinking=self.wants_thinking(), effort_param="output_config.effort")
        prompt = ChatPrompt(messages, tools, template, continues_last=messages[-1].role == "assistant")
        return prompt, to_tool_use(self.tool_choice, tools)

    def wants_thinking(self) -> bool | None:
        """None leaves it to the model."""
        if self.thinking is None or self.thinking.type == "adaptive":
            return None
        return self.thinking.type == "enabled"

    def hides_thinking(self) -> bool:
        """Whether the answer says that there was reasoning, but not which."""
        return self.thinking is not None and self.thinking.display == "omitted"

    def constraint(self) -> Grammar | None:
        """What the answer must be. Raises InvalidRequest for two formats, and for a schema that is too long."""
        current = self.output_config.format if self.output_config else None
        if current is not None and self.output_format is not None:
            raise InvalidRequest(
                "`output_format` is the older name of `output_config.format`: leave one out.", "output_format"
            )
        for given, param in ((current, "output_config.format.schema"), (self.output_format, "output_format.schema")):
            if given is not None:
                return check_size(Grammar("json_schema", msgspec.json.encode(given.schema).decode(), param))
        return None


class MessagesRequest(PromptFields, frozen=True, kw_only=True):
    """The body of `/v1/messages`."""

    max_tokens: Count
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Probability | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    use_cache: bool | None = None

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type; the limit is the request's own. Raises InvalidRequest."""
        prompt, tool_use = self.prompt()
        return GenerationRequest(
            prompts=(prompt,),
            max_tokens=self.max_tokens,
            sampling=Sampling(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k),
            limits=Limits(stop=self.stops()),
            grammar=self.constraint(),
            tool_use=tool_use,
            thinking_budget=self.thinking_budget(),
            announce=bool(self.stream),
            use_cache=self.use_cache is not False,
        )

    def stops(self) -> tuple[str, ...]:
        """The stop strings. Raises InvalidRequest for an empty one or too many."""
        stops = tuple(self.stop_sequences or ())
        name = "stop_sequences"
        if len(stops) > MAX_STOPS:
            raise InvalidRequest(f"`{name}`: at most {MAX_STOPS} strings are allowed, got {len(stops)}.", name)
        if not all(0 < len(stop) <= MAX_STOP_CHARS for stop in stops):
            raise InvalidRequest(f"`{name}`: strings must have 1 to {MAX_STOP_CHARS} characters.", name)
        return stops

    def thinking_budget(self) -> int | None:
        """How many tokens the reasoning may take. Raises InvalidRequest for one that leaves none for the answer."""
        thinking = self.thinking
        name = "thinking.budget_tokens"
        if thinking is None or thinking.type != "enabled":
            if thinking is not None and thinking.budget_tokens is not None:
                raise InvalidRequest(f"`{name}` needs the type 'enabled'.", name)
            return None
        if thinking.budget_tokens is None:
            raise InvalidRequest(f"`{name}` is missing.", name)
        if thinking.budget_tokens >= self.max_tokens:
            raise InvalidRequest(f"`{name}` must be less than `max_tokens` ({self.max_tokens}).", name)
        return thinking.budget_tokens


class TokenCount(msgspec.Struct, frozen=True):
    """The answer of `/v1/messages/count_tokens`."""

    input_tokens: int


decoder = msgspec.json.Decoder(MessagesRequest)
count_decoder = msgspec.json.Decoder(PromptFields)
