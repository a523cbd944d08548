"""Anthropic's `/v1/messages` and `/v1/messages/count_tokens`: what clients send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.anthropic.blocks import CacheControl, TextParam
from mlx_server.schemas.anthropic.conversation import MessageParam, effort_in, to_messages
from mlx_server.schemas.anthropic.tools import ToolChoice, ToolParam, to_tool_use, to_tools
from mlx_server.schemas.internal.efforts import Effort, checked_effort
from mlx_server.schemas.internal.errors import THREAD_UNSUPPORTED, InvalidRequest
from mlx_server.schemas.internal.generation import (
    ChatPrompt,
    GenerationRequest,
    Grammar,
    Limits,
    Sampling,
    Template,
    ToolUse,
)
from mlx_server.schemas.internal.summary import ASKED, summarising
from mlx_server.schemas.openai.chat import MAX_MESSAGES
from mlx_server.schemas.openai.common import MAX_STOP_CHARS, MAX_STOPS, Probability
from mlx_server.schemas.openai.structured import check_size

# Nothing is refused for being asked for: what only Anthropic's servers do is left out, and named.
HARMLESS: dict[str, tuple[Any, ...]] = {}

WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "billing_policy": (),
    "container": (),
    "diagnostics": (),
    "fallback_credit_token": (),
    "fallbacks": ([],),
    "inference_geo": (),
    "mcp_servers": ([],),
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard",),
    "user_profile_id": (),
    "workspace_id": (),
}
"""Parameters that change nothing here, with the values that ask for what is so anyway."""

MaxTokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""How long an answer may be; with 0 the prompt is only read, so that it is known when it comes again."""

DISPLAYS = ("summarized", "omitted")
KEEPS_ALL = {"type": "clear_thinking_20251015", "keep": "all"}


class Thinking(msgspec.Struct, frozen=True):
    """Whether the model reasons before it answers, for at most how many tokens; `adaptive` leaves it to the model, and
    so does `between_tools`."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    display: Annotated[Any, Meta(extra_json_schema={"examples": list(DISPLAYS)})] = None
    block_binding: Any = None


class OutputFormat(msgspec.Struct, frozen=True):
    """A JSON schema that the answer's text follows; it is always enforced."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    """How much effort the model makes, and the format of its answer."""

    effort: Effort | None = None
    format: OutputFormat | None = None
    task_budget: Any = None


class CompactionConfig(msgspec.Struct, frozen=True):
    """A summary of the conversation is wanted in an answer's place; `instructions` say which, if there is any word in
    them."""

    type: Literal["summarize"]
    instructions: str | None = None

    def asked(self) -> str:
        """What the model is told."""
        return self.instructions if self.instructions and not self.instructions.isspace() else ASKED


class Metadata(msgspec.Struct, frozen=True):
    """Who asks, in the client's own terms; nothing depends on it."""

    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation, which of its tools may be called, and the paths of what changes nothing."""

    prompt: ChatPrompt
    tool_use: ToolUse
    ignored: tuple[str, ...]


class PromptFields(msgspec.Struct, frozen=True, kw_only=True):
    """What both endpoints take: everything that the prompt is made of. `null` everywhere means not given."""

    messages: Annotated[list[MessageParam], Meta(max_length=MAX_MESSAGES)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    system: str | list[TextParam] | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    reasoning_effort: Effort | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: CacheControl | None = None
    context_management: Any = None
    billing_policy: Any = None
    container: Any = None
    diagnostics: Any = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    service_tier: Any = None
    speed: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None

    def asked(self) -> Asked:
        """The inside types. Raises InvalidRequest."""
        spoken = to_messages(self.messages, self.system)
        offered = to_tools(self.tools)
        tool_use, about_choice = to_tool_use(self.tool_choice, offered)
        effort, param = self.effort()
        known, about_effort = checked_effort(effort, param)
        template = Template(effort=known, thinking=self.wants_thinking(), effort_param=param)
        continues = spoken.messages[-1].role == "assistant"
        prompt = ChatPrompt(spoken.messages, offered.tools, template, continues_last=continues)
        ignored = (*spoken.ignored, *offered.ignored, *about_choice, *about_effort, *self.without_effect())
        return Asked(prompt, tool_use, ignored)

    def effort(self) -> tuple[str | None, str]:
        """How much effort is asked for, and by which field."""
        if (in_turn := effort_in(self.messages)) is not None:
            return in_turn
        if self.output_config is not None and self.output_config.effort is not None:
            return self.output_config.effort, "output_config.effort"
        return self.reasoning_effort, "reasoning_effort"

    def wants_thinking(self) -> bool | None:
        """None leaves it to the model."""
        kind = None if self.thinking is None else self.thinking.type
        return None if kind not in ("enabled", "disabled") else kind == "enabled"

    def hides_thinking(self) -> bool:
        """Whether the answer says that there was reasoning, but not which."""
        return self.thinking is not None and self.thinking.display == "omitted"

    def without_effect(self) -> list[str]:
        """The paths of what is given and changes nothing."""
        given = {name: getattr(self, name) for name in WITHOUT_EFFECT}
        paths = [name for name, value in given.items() if value is not None and value not in WITHOUT_EFFECT[name]]
        if self.output_config is not None and self.output_config.task_budget is not None:
            paths.append("output_config.task_budget")
        return [*paths, *edits_left_out(self.context_management), *left_out_of(self.thinking)]

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


class AnswerFields(PromptFields, frozen=True, kw_only=True):
    """What else an answer depends on."""

    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Probability | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    use_cache: bool | None = None
    compaction: CompactionConfig | None = None
    thread: Any = None


class MessagesRequest(AnswerFields, frozen=True, kw_only=True):
    """The body of `/v1/messages`."""

    max_tokens: MaxTokens

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type; the limit is the request's own. Raises InvalidRequest."""
        if self.thread is not None:
            message = "`thread`: this server keeps no conversations; send all of it, and leave `thread` out."
            raise InvalidRequest(message, "thread", THREAD_UNSUPPORTED)
        asked = self.asked()
        generation = GenerationRequest(
            prompts=(asked.prompt,),
            max_tokens=self.max_tokens,
            sampling=Sampling(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k),
            limits=Limits(stop=self.stops()),
            grammar=self.constraint(),
            tool_use=asked.tool_use,
            thinking_budget=self.thinking_budget(),
            budget_param="thinking",
            announce=bool(self.stream),
            use_cache=self.use_cache is not False,
            ignored=asked.ignored,
        )
        if self.max_tokens == 0:
            ignored = (*asked.ignored, "compaction") if self.compaction is not None else asked.ignored
            return msgspec.structs.replace(generation, max_tokens=1, limits=Limits(), grammar=None, ignored=ignored)
        if self.compaction is None:
            return generation
        summary = summarising(generation, self.max_tokens, self.compaction.asked())
        return msgspec.structs.replace(summary, ignored=(*asked.ignored, *self.shapes_answer()))

    def shapes_answer(self) -> list[str]:
        """The paths of what is given and only says how an answer shall be."""
        names = ("output_format", "stop_sequences", "tool_choice")
        format_ = self.output_config.format if self.output_config else None
        return [*(name for name in names if getattr(self, name)), *(["output_config.format"] if format_ else [])]

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
        if thinking is None or thinking.type != "enabled" or thinking.budget_tokens is None or self.max_tokens == 0:
            return None
        if thinking.budget_tokens >= self.max_tokens:
            raise InvalidRequest(f"`{name}` must be less than `max_tokens` ({self.max_tokens}).", name)
        return thinking.budget_tokens


class CountRequest(AnswerFields, frozen=True, kw_only=True):
    """The body of `/v1/messages/count_tokens`: the same, of which the prompt's fields count."""

    max_tokens: MaxTokens | None = None

    def ignored(self, asked: Asked) -> list[str]:
        """The paths of what changes nothing in a count."""
        others = (name for name in self.__struct_fields__ if name not in PromptFields.__struct_fields__)
        return [*asked.ignored, *(name for name in others if getattr(self, name) is not None)]


def edits_left_out(given: Any) -> list[str]:
    """The paths of edits of the conversation: none are made. To clear nothing is what this server always does."""
    edits = given.get("edits") if isinstance(given, dict) and given.keys() <= {"edits"} else given
    if not isinstance(edits, list):
        return [] if edits is None else ["context_management"]
    return [f"context_management.edits[{i}]" for i, edit in enumerate(edits) if edit != KEEPS_ALL]


def left_out_of(thinking: Thinking | None) -> list[str]:
    """The paths of what changes nothing in how the model reasons and shows it."""
    if thinking is None:
        return []
    names = {
        "type": thinking.type == "between_tools",
        "budget_tokens": thinking.type != "enabled" and thinking.budget_tokens is not None,
        "display": thinking.display is not None and thinking.display not in DISPLAYS,
        "block_binding": thinking.block_binding is not None,
    }
    return [f"thinking.{name}" for name, given in names.items() if given]


class TokenCount(msgspec.Struct, frozen=True):
    """The answer of `/v1/messages/count_tokens`."""

    input_tokens: int


decoder = msgspec.json.Decoder(MessagesRequest)
count_decoder = msgspec.json.Decoder(CountRequest)
