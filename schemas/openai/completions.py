"""`/v1/completions`: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import GenerationRequest, Prompt, TextPrompt, TokenPrompt
from mlx_server.schemas.internal.progress import PromptProgress
from mlx_server.schemas.openai.common import (
    MAX_CHOICES,
    CompletionFields,
    PerformanceMetrics,
    PromptLogprobs,
    TokenId,
    Usage,
)

MAX_PROMPTS = 256
MAX_TOKEN_IDS = 1 << 20


MAX_LOGPROBS = 20


class CompletionRequest(CompletionFields, frozen=True, kw_only=True):
    """The body of a text completion. A prompt is text or token ids, or a list of either."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], msgspec.Meta(max_length=MAX_TOKEN_IDS)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None
    suffix: Annotated[str, msgspec.Meta(max_length=1 << 20)] | None = None

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("`max_tokens`: 0 is only allowed together with `echo`.", "max_tokens")
        rows = self.n or 1
        if self.best_of is not None and self.best_of != rows:
            if self.best_of < rows:
                raise InvalidRequest(f"`best_of` must not be less than `n` ({rows}).", "best_of")
            if self.stream:
                raise InvalidRequest("`best_of` above `n` can't be streamed: leave one of them out.", "best_of")
            rows = self.best_of
        prompts = to_prompts(self.prompt, self.suffix)
        if len(prompts) * rows > MAX_PROMPTS:
            raise InvalidRequest(
                f"`prompt`: at most {MAX_PROMPTS} answers are allowed in a request, got {len(prompts)} prompts with"
                f" {rows} each.",
                "prompt",
            )
        most = default_max_tokens if self.max_tokens is None else self.max_tokens
        logprobs = self.logprobs if rows == (self.n or 1) else self.logprobs or 0
        return GenerationRequest(
            prompts=prompts,
            max_tokens=most,
            n=rows,
            sampling=self.sampling(),
            limits=self.limits(most),
            logprobs=logprobs,
            echo=bool(self.echo),
            prompt_logprobs=self.prompt_alternatives(),
            token_ids=bool(self.return_token_ids),
            grammar=self.constraint(),
            adapter=self.adapters,
            draft=self.draft(),
            speculate=self.speculate,
            prediction=self.predicted(),
            use_cache=self.use_cache is not False,
            salt=self.cache_salt or "",
            conversation=self.conversation_id or "",
            ignored=self.idle(reports=self.logprobs is not None),
            announce=self.continuous_usage(),
            progress=self.include_progress(),
        )


def to_prompts(given: str | list[str | int | list[int]], suffix: str | None = None) -> tuple[Prompt, ...]:
    """One prompt for each sequence. Raises InvalidRequest for an empty or a mixed list."""
    if isinstance(given, str):
        return (TextPrompt(given, suffix),)
    if not given:
        raise InvalidRequest("`prompt` is an empty list: give at least one prompt or token id.", "prompt")
    kinds = {type(item) for item in given}
    if suffix and kinds != {str}:
        raise InvalidRequest("`suffix` needs a prompt that is text, not token ids.", "suffix")
    if len(kinds) > 1:
        raise InvalidRequest("`prompt`: strings, token ids and lists of token ids can't be mixed.", "prompt")
    if kinds == {int}:
        return (TokenPrompt(tuple(item for item in given if isinstance(item, int))),)
    if len(given) > MAX_PROMPTS:
        raise InvalidRequest(
            f"`prompt`: at most {MAX_PROMPTS} prompts are allowed in a request, got {len(given)}.", "prompt"
        )
    return tuple(
        TextPrompt(item, suffix) if isinstance(item, str) else TokenPrompt(tuple(item))
        for item in given
        if not isinstance(item, int)
    )


class CompletionLogprobs(msgspec.Struct):
    """Lists with an entry for each token: its text, where that begins in the answer, what it and others had.

    `top_logprobs` are the most probable tokens and the chosen one: one more than was asked for if it is none of them.
    `text_offset` counts characters. A prompt's first token has null for both probabilities.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    """One answer, whole or (in a stream) a part of it."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    prompt_logprobs: PromptLogprobs | msgspec.UnsetType = msgspec.UNSET


class Completion(msgspec.Struct, frozen=True):
    """A whole answer or one event of a stream: OpenAI gives both the same object name."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    system_fingerprint: str | None = None
    conversation_id: str | msgspec.UnsetType = msgspec.UNSET
    performance_metrics: PerformanceMetrics | msgspec.UnsetType = msgspec.UNSET
    progress: PromptProgress | msgspec.UnsetType = msgspec.UNSET


decoder = msgspec.json.Decoder(CompletionRequest)
