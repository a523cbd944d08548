"""From a request to token ids: chat template, tokenizer, and the limits that need them. Tokenizer's thread only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from mlx_server.schemas.errors import InvalidRequest
from mlx_server.schemas.generation import ChatPrompt, GenerationRequest, Message, Prompt, Sampling, TextPrompt
from mlx_server.workers.engine.prefix import SharedPrefix
from mlx_server.workers.engine.thinking import ThinkingStart, think_marks
from mlx_server.workers.engine.vocabulary import Vocabulary
from mlx_server.workers.sequence import Sequence

NEAR_END = 4
"""Tokens that may stand between a closed block of reasoning and the answer: line breaks."""

SEED_STRIDE = 0x5851F42D4C957F2D
"""Keeps the seeds of a request's choices apart (an odd number, Knuth's MMIX multiplier)."""

OPENAI_DEFAULTS = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0)


class PromptMaker:
    """Turns requests into sequences. `context_length` is None where the model does not say."""

    def __init__(
        self,
        tokenizer: Any,
        vocab_size: int,
        context_length: int | None,
        model_defaults: Sampling,
        vocabulary: Vocabulary,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._longest_token = max(map(len, tokenizer.get_vocab()))
        self._context_length = context_length
        self._defaults = model_defaults
        self._vocabulary = vocabulary
        self._marks = think_marks(tokenizer)

    def sequences(self, ticket: int, request: GenerationRequest) -> list[Sequence]:
        """One sequence for each choice of each prompt. Raises InvalidRequest."""
        sampling = with_defaults(request.sampling, self._defaults, OPENAI_DEFAULTS)
        self._check_ids(sampling.logit_bias, "logit_bias")
        self._check_ids(request.limits.stop_token_ids, "stop_token_ids")
        grammar = None if request.grammar is None else self._vocabulary.compile(request.grammar)
        if request.thinking_budget is not None and self._marks is None:
            raise InvalidRequest("`thinking_budget`: this model does not reason.", "thinking_budget")
        sequences: list[Sequence] = []
        for prompt in request.prompts:
            tokens = self._tokens(prompt)
            first = Sequence(
                (ticket, len(sequences)),
                tokens,
                min(request.max_tokens, self._room(len(tokens), prompt)),
                sampling,
                request.limits,
                continues_text=not isinstance(prompt, ChatPrompt) or prompt.continues_last,
                prefix=SharedPrefix(request.n) if request.n > 1 else None,
                grammar=grammar,
                thinking=self._thinking(tokens, prompt),
                thinking_budget=request.thinking_budget,
                echo=self._text(prompt, tokens) if request.echo else None,
                logprobs=request.logprobs,
            )
            sequences += [first, *(choice_of(first, i) for i in range(1, request.n))]
        return sequences

    def _thinking(self, tokens: list[int], prompt: Prompt) -> ThinkingStart | None:
        """Where an answer to this conversation stands: reasoning is open, has been closed, or may come."""
        if self._marks is None or not isinstance(prompt, ChatPrompt):
            return None
        opened = self._tokenizer.rfind_think_start(tokens)
        closed = self._tokenizer.rfind_think_end(tokens)
        # A template that forbids reasoning ends with an empty block of it.
        just_closed = closed >= 0 and len(tokens) - closed <= len(self._marks.end_ids) + NEAR_END
        return ThinkingStart(self._marks, thinks=opened > closed, may_think=opened <= closed and not just_closed)

    def _text(self, prompt: Prompt, tokens: list[int]) -> str:
        if isinstance(prompt, TextPrompt):
            return prompt.text
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _tokens(self, prompt: Prompt) -> list[int]:
        match prompt:
            case ChatPrompt():
                self._check_length(sum(len(message.content) for message in prompt.messages), "messages")
                tokens, field = self._render(prompt.messages), "messages"
            case TextPrompt():
                self._check_length(len(prompt.text), "prompt")
                tokens, field = list(self._tokenizer.encode(prompt.text)), "prompt"
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

    def _render(self, messages: tuple[Message, ...]) -> list[int]:
        if not self._tokenizer.has_chat_template:
            raise InvalidRequest("This model has no chat template: use /v1/completions.", "messages")
        given = [{k: v for k, v in msgspec.structs.asdict(m).items() if v is not None} for m in messages]
        try:
            return list(self._tokenizer.apply_chat_template(given, add_generation_prompt=True))
        except Exception as error:  # noqa: BLE001 - a template is a model's own program; it refuses with any exception
            raise InvalidRequest(f"The model's chat template refuses these messages: {error}", "messages") from None

    def _room(self, prompt_tokens: int, prompt: Prompt) -> int:
        """How many tokens may follow. Raises InvalidRequest if there is no place for one."""
        if self._context_length is None:
            return 1 << 31
        if prompt_tokens >= self._context_length:
            field = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
            raise too_long(str(prompt_tokens), self._context_length, field)
        return self._context_length - prompt_tokens


def choice_of(first: Sequence, choice: int) -> Sequence:
    """Another choice of the same prompt; its seed is its own."""
    sampling = first.sampling
    if sampling.seed is not None:
        sampling = msgspec.structs.replace(sampling, seed=sampling.seed + choice * SEED_STRIDE)
    key = (first.key[0], first.key[1] + choice)
    return replace(first, key=key, sampling=sampling, follows=True, emitted=[])


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
