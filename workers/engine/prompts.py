"""From a request to token ids: chat template, tokenizer, and the limits that need them. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Prompt, Sampling, TextPrompt, ToolUse
from mlx_server.workers.engine.fill_in import fill_in
from mlx_server.workers.engine.render import ChatRenderer, TemplateDefaults
from mlx_server.workers.sequence import Sequence

OPENAI_DEFAULTS = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0)


class PromptMaker:
    """Turns requests into sequences. `context_length` is None where the model does not say."""

    def __init__(
        self,
        tokenizer: Any,
        vocab_size: int,
        context_length: int | None,
        model_defaults: Sampling,
        templates: TemplateDefaults | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._longest_token = max(map(len, tokenizer.get_vocab()))
        self._context_length = context_length
        self._defaults = model_defaults
        self.renderer = ChatRenderer(tokenizer, self._check_length, templates)

    def sequences(self, ticket: int, request: GenerationRequest) -> list[Sequence]:
        """One sequence per prompt. Raises InvalidRequest."""
        sampling = with_defaults(request.sampling, self._defaults, OPENAI_DEFAULTS)
        self._check_ids(sampling.logit_bias, "logit_bias")
        sequences = []
        for index, prompt in enumerate(request.prompts):
            tokens = self._tokens(prompt, request.tool_use)
            room = self._room(len(tokens), prompt)
            max_tokens = min(request.max_tokens, room)
            continues = not isinstance(prompt, ChatPrompt) or prompt.continues_last
            sequences.append(Sequence((ticket, index), tokens, max_tokens, sampling, request.limits, continues))
        return sequences

    def close(self) -> None:
        """End what was started for clients' templates. Idempotent; from any thread."""
        self.renderer.close()

    def _tokens(self, prompt: Prompt, tool_use: ToolUse) -> list[int]:
        match prompt:
            case ChatPrompt():
                self._check_length(sum(len(message.content) for message in prompt.messages), "messages")
                tokens, field = self.renderer.render(prompt, tool_use).tokens, "messages"
            case TextPrompt():
                self._check_length(len(prompt.text) + len(prompt.suffix or ""), "prompt")
                tokens, field = self._encode(prompt), "prompt"
            case _:
                tokens, field = list(prompt.ids), "prompt"
        self._check_ids(tokens, field)
        return tokens or self._start()

    def _check_length(self, characters: int, field: str) -> None:
        """Refuse what can't fit before it is tokenised, which takes seconds for megabytes."""
        tokens = characters // self._longest_token
        if self._context_length is not None and tokens > self._context_length:
            raise too_long(f"at least {tokens}", self._context_length, field)

    def _check_ids(self, ids: Iterable[int], field: str) -> None:
        """The model looks ids up without checking them. Raises InvalidRequest."""
        for id_ in ids:
            if not 0 <= id_ < self._vocab_size:
                raise InvalidRequest(
                    f"`{field}`: token id {id_} is not in the vocabulary (0 to {self._vocab_size - 1}).", field
                )

    def _start(self) -> list[int]:
        """What stands for an empty prompt."""
        token = self._tokenizer.bos_token_id
        if token is None:
            raise InvalidRequest("`prompt` is empty, and this model has no token that begins a text.", "prompt")
        return [token]

    def _encode(self, prompt: TextPrompt) -> list[int]:
        if prompt.suffix:
            return fill_in(self._tokenizer, prompt.text, prompt.suffix)
        return list(self._tokenizer.encode(prompt.text))

    def _room(self, prompt_tokens: int, prompt: Prompt) -> int:
        """How many tokens may follow. Raises InvalidRequest if there is no place for one."""
        if self._context_length is None:
            return 1 << 31
        if prompt_tokens >= self._context_length:
            field = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
            raise too_long(str(prompt_tokens), self._context_length, field)
        return self._context_length - prompt_tokens


def too_long(tokens: str, context_length: int, field: str) -> InvalidRequest:
    """The refusal of a prompt that leaves no room for an answer."""
    message = (
        f"The prompt has {tokens} tokens, and this model's context is {context_length} tokens"
        " for prompt and answer together. Shorten the prompt."
    )
    return InvalidRequest(message, field, "context_length_exceeded")


def with_defaults(given: Sampling, *defaults: Sampling) -> Sampling:
    """What the client asked for; where it is silent, the first of the defaults that is not."""
    filled = {}
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
        values = (getattr(sampling, name) for sampling in (given, *defaults))
        filled[name] = next((value for value in values if value is not None), None)
    return msgspec.structs.replace(given, **filled)
