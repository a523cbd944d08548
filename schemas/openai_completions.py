"""`/v1/completions`: what clients send, what they get."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import GenerationRequest, Prompt, TextPrompt, TokenPrompt
from mlx_server.schemas.openai import SamplingFields, Usage

MAX_PROMPTS = 256
MAX_TOKEN_IDS = 1 << 20

TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """The body of a text completion. A prompt is text or token ids, or a list of either."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], msgspec.Meta(max_length=MAX_TOKEN_IDS)]

    def to_generation(self, default_max_tokens: int) -> GenerationRequest:
        """The inside type. Raises InvalidRequest."""
        return GenerationRequest(
            prompts=to_prompts(self.prompt),
            max_tokens=self.max_tokens or default_max_tokens,
            sampling=self.sampling(),
            stop=self.stops(),
        )


def to_prompts(given: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """One prompt for each sequence. Raises InvalidRequest for an empty or a mixed list."""
    if isinstance(given, str):
        return (TextPrompt(given),)
    if not given:
        raise InvalidRequest("`prompt` is an empty list: give at least one prompt or token id.", "prompt")
    kinds = {type(item) for item in given}
    if len(kinds) > 1:
        raise InvalidRequest("`prompt`: strings, token ids and lists of token ids can't be mixed.", "prompt")
    if kinds == {int}:
        return (TokenPrompt(tuple(item for item in given if isinstance(item, int))),)
    if len(given) > MAX_PROMPTS:
        raise InvalidRequest(
            f"`prompt`: at most {MAX_PROMPTS} prompts are allowed in a request, got {len(given)}.", "prompt"
        )
    return tuple(
        TextPrompt(item) if isinstance(item, str) else TokenPrompt(tuple(item))
        for item in given
        if not isinstance(item, int)
    )


class CompletionChoice(msgspec.Struct, frozen=True):
    """One answer, whole or (in a stream) a part of it."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: None = None


class Completion(msgspec.Struct, frozen=True):
    """A whole answer or one event of a stream: OpenAI gives both the same object name."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    system_fingerprint: str | None = None


decoder = msgspec.json.Decoder(CompletionRequest)
