"""What OpenAI's endpoints share: sampling parameters, usage, stream options, models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import Draft, Grammar, Limits, Sampling, Speculate
from mlx_server.schemas.openai.structured import ResponseFormat, StructuredOutputs, only_grammar

MAX_STOPS = 16
MAX_STOP_CHARS = 1000
MAX_CHOICES = 16
MAX_PROMPT_LOGPROBS = 20

# Parameters that are known and not served, with the values that change nothing (null never does).
HARMLESS: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
}

# Known, and whatever their value is, it changes nothing; with these it would change nothing elsewhere either.
IDLE: dict[str, tuple[Any, ...]] = {
    "service_tier": ("auto", "default"),
    "store": (False,),
    "audio": (),
    "verbosity": ("medium",),
    "web_search_options": (),
    "moderation": (),
    "prompt_cache_options": ({"mode": "implicit"},),
    "prompt_cache_retention": ("in_memory",),
}
IDLE_STREAM: dict[str, tuple[Any, ...]] = {"include_obfuscation": (False,)}
IDLE_USAGE: dict[str, tuple[Any, ...]] = {"continuous_usage_stats": (False,)}
"""Where a stream's chunks have no usage."""


def idle(given: msgspec.Struct | None, usual: dict[str, tuple[Any, ...]], place: str = "") -> list[str]:
    """The paths of the fields of `given`, which stands at `place`, that are set to more than what is `usual`."""
    return [place + name for name, values in usual.items() if getattr(given, name, None) not in (None, *values)]


class StreamOptions(msgspec.Struct, frozen=True):
    """`include_usage` adds a last chunk with the token counts, and with vLLM's `continuous_usage_stats` every chunk has
    those until then; `include_progress` tells before the first text how far the prompt is."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_progress: bool | None = None
    include_obfuscation: bool | None = None


Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True):
    """The request fields that chat and text completions have in common; `null` everywhere means not given."""

    model: Annotated[str, Meta(max_length=256)] | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repetition_context_size: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float | str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MAX_STOPS)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: list[str] | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    guided_choice: list[str] | None = None
    adapters: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    draft_model: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    num_draft_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None
    speculate: Speculate | None = None
    conversation_id: Annotated[str, Meta(max_length=256)] | None = None
    use_cache: bool | None = None
    cache_salt: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    performance_metrics: bool | None = None

    def sampling(self) -> Sampling:
        """The inside type. Raises InvalidRequest."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=self.seed,
            repetition_penalty=self.repetition_penalty,
            repetition_context_size=self.repetition_context_size or 20,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=logit_bias(self.logit_bias or {}),
        )

    def stops(self) -> tuple[str, ...]:
        """The stop strings. Raises InvalidRequest for an empty one or too many."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stops) > MAX_STOPS:
            raise InvalidRequest(f"`stop`: at most {MAX_STOPS} strings are allowed, got {len(stops)}.", "stop")
        if not all(0 < len(stop) <= MAX_STOP_CHARS for stop in stops):
            raise InvalidRequest(f"`stop`: strings must have 1 to {MAX_STOP_CHARS} characters.", "stop")
        return stops

    def limits(self, max_tokens: int) -> Limits:
        """The inside type, of an answer of so many tokens at most. Raises InvalidRequest."""
        if (self.min_tokens or 0) > max_tokens:
            raise InvalidRequest(f"`min_tokens` is more than the answer may have ({max_tokens}).", "min_tokens")
        return Limits(
            stop=self.stops(),
            include_stop=bool(self.include_stop_str_in_output),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            min_tokens=self.min_tokens or 0,
            ignore_eos=bool(self.ignore_eos),
            skip_special_tokens=self.skip_special_tokens is not False,
        )

    def constraint(self, other: Grammar | None = None) -> Grammar | None:
        """What the answer must be; `other` stands in a field of an API's own. Raises InvalidRequest for more than one
        constraint, or for one with limits that would break it."""
        grammar = only_grammar(self, other)
        if grammar is not None and (self.min_tokens or self.ignore_eos):
            field = "min_tokens" if self.min_tokens else "ignore_eos"
            raise InvalidRequest(f"`{field}` can't be kept together with `{grammar.param}`: leave one out.", field)
        return grammar

    def draft(self) -> Draft | None:
        """Whether a draft model takes part."""
        if self.draft_model is None and self.num_draft_tokens is None:
            return None
        return Draft(self.draft_model, self.num_draft_tokens)

    def include_usage(self) -> bool:
        """Whether the stream ends with a usage chunk. Raises InvalidRequest for options without a stream."""
        return bool(self._stream_options().include_usage)

    def continuous_usage(self) -> bool:
        """Whether every chunk of the stream has the usage until then. Raises InvalidRequest for options without a
        stream."""
        options = self._stream_options()
        return bool(options.include_usage and options.continuous_usage_stats)

    def include_progress(self) -> bool:
        """Whether the stream tells how far its prompt is. Raises InvalidRequest for options without a stream."""
        return bool(self._stream_options().include_progress)

    def _stream_options(self) -> StreamOptions:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("`stream_options` is only allowed when `stream` is true.", "stream_options")
        return self.stream_options or StreamOptions()


class PredictedPart(msgspec.Struct, frozen=True):
    """A piece of a predicted text."""

    passed_over: ClassVar = frozenset({"prompt_cache_breakpoint"})

    text: str
    type: Literal["text"] = "text"


class Prediction(msgspec.Struct, frozen=True):
    """What much of the answer will be: a file that is to be written again with few changes. It makes the answer faster
    and changes nothing else."""

    content: str | list[PredictedPart]
    type: Literal["content"] = "content"

    def text(self) -> str:
        """All of it."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class CompletionFields(SamplingFields, frozen=True, kw_only=True):
    """What chat and text completions have beside what they share with responses: fields that change nothing here."""

    service_tier: str | None = None
    store: bool | None = None
    audio: Any = None
    prediction: Prediction | None = None
    verbosity: str | None = None
    web_search_options: Any = None
    moderation: Any = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=MAX_PROMPT_LOGPROBS)] | None = None

    def idle(self, *, reports: bool) -> tuple[str, ...]:
        """The paths of what is known and changes nothing; an answer `reports` log-probabilities, or not."""
        nameless = {"return_tokens_as_token_ids": (True,) if reports else (False,)}
        unused = IDLE_STREAM if self.continuous_usage() else {**IDLE_STREAM, **IDLE_USAGE}
        known = (*idle(self, IDLE), *idle(self.stream_options, unused, "stream_options."))
        return (*known, *idle(self, nameless))

    def predicted(self) -> str:
        """What the client thinks that the answer will be."""
        return "" if self.prediction is None else self.prediction.text()

    def prompt_alternatives(self) -> int | None:
        """How many alternatives are reported for each token of the prompt; None for no report. Raises InvalidRequest in
        a stream, which has no place for it."""
        if self.prompt_logprobs is not None and self.stream:
            raise InvalidRequest("`prompt_logprobs` can't be streamed: leave one of them out.", "prompt_logprobs")
        return self.prompt_logprobs


def logit_bias(given: dict[str, float | str]) -> dict[int, float]:
    """Token id to bias, from numbers or numeric strings in -100 to 100. Raises InvalidRequest."""
    out: dict[int, float] = {}
    for key, value in given.items():
        param = f"logit_bias.{key}"
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise InvalidRequest(f"`{param}`: a key must be a token id (a non-negative integer).", param)
        try:
            bias = float(value)
        except ValueError:
            raise InvalidRequest(f"`{param}`: expected a number, got {value!r}.", param) from None
        if not -100 <= bias <= 100:
            raise InvalidRequest(f"`{param}`: expected a number from -100 to 100, got {value}.", param)
        out[int(key)] = bias
    return out


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """How many of the prompt's tokens came from a cache."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """How many of the answer's tokens were reasoning, how many were proposed and right (by a draft model, by what the
    client predicts or by what was said before), and how many were proposed in vain."""

    reasoning_tokens: int
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a whole answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class PromptLogprob(msgspec.Struct, frozen=True):
    """A token that a prompt has, or could have had, at one place: in nats, and its rank there, counted from 1."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""By token ids, for each token of a prompt; null for the first one, which nothing comes before."""


class PerformanceMetrics(msgspec.Struct, frozen=True):
    """How fast an answer came: from the request to its end, and tokens of the answer per second of it."""

    inference_time_ms: float
    tokens_per_second: float


class Modalities(msgspec.Struct, frozen=True):
    """What a model reads and writes."""

    input: list[str]
    output: list[str]


class Features(msgspec.Struct, frozen=True):
    """What a model can do; null while it is loaded and nobody knows.

    `rerank`: it scores pairs of texts. `dimensions` is the length of its embeddings, null if it makes none.
    """

    tools: bool | None
    structured_outputs: bool | None
    reasoning: bool | None
    embeddings: bool | None
    rerank: bool | None
    dimensions: int | None


class Model(msgspec.Struct, frozen=True):
    """One entry of `GET /v1/models`; `created` in seconds since the epoch.

    `context_length` is what one request may have here, in tokens, prompt and answer together: what the model takes,
    the operator allows and memory holds, null while it is not known. `max_model_len`, `context_window` and
    `max_input_tokens` are the same for clients that call it so, `native_context_length` is the model's own.
    `default_max_tokens` is the most that a request gets that sets no limit, null while that is not known and for a
    model that writes no text.
    `supported_parameters` are those of both kinds of completion, or of what such a model does. `status` is unloaded,
    loading, loaded, restarting, unloading or failed. `root`, `parent` and `permission` are OpenAI's older fields;
    `display_name`, `created_at` (as `created`), `lifecycle` and `type` are Anthropic's.
    """

    id: str
    object: Literal["model"]
    created: int
    display_name: str
    created_at: datetime
    owned_by: str
    status: str
    context_length: int | None
    max_model_len: int | None
    context_window: int | None
    max_input_tokens: int | None
    native_context_length: int | None
    default_max_tokens: int | None
    modalities: Modalities
    features: Features
    supported_parameters: list[str]
    root: str
    parent: None = None
    permission: list[str] = []
    lifecycle: Literal["active"] = "active"
    type: str = "model"


class ModelList(msgspec.Struct, frozen=True):
    """`GET /v1/models`, whose last three fields say to Anthropic's clients that this is the only page."""

    object: Literal["list"]
    data: list[Model]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False]
