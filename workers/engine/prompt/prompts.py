"""From a request to token ids: chat template, tokenizer, and the limits that need them. Tokenizer's thread only."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_server.schemas.internal.errors import InvalidRequest
from mlx_server.schemas.internal.generation import (
    NO_LIMIT,
    ChatPrompt,
    GenerationRequest,
    Grammar,
    Message,
    Prompt,
    Sampling,
    TextPrompt,
    ToolUse,
    in_force,
)
from mlx_server.workers.engine.grammar.call_grammars import CallGrammars
from mlx_server.workers.engine.grammar.distinct import Matcher
from mlx_server.workers.engine.grammar.tool_grammar import enforced, special_tokens
from mlx_server.workers.engine.grammar.vocabulary import Vocabulary
from mlx_server.workers.engine.kvcache.prefix_index import as_ids
from mlx_server.workers.engine.kvcache.shared_prefix import SharedPrefix
from mlx_server.workers.engine.output.output_format import OutputFormat, Speech
from mlx_server.workers.engine.output.thinking import ThinkingStart, starts_thinking
from mlx_server.workers.engine.output.tool_calls.tool_formats import HERMES, ToolFormat
from mlx_server.workers.engine.prompt.fill_in import fill_in
from mlx_server.workers.engine.prompt.marked import common, marked_beginnings
from mlx_server.workers.engine.prompt.media_support import MediaSupport
from mlx_server.workers.engine.prompt.render import ChatRenderer, Rendered, TemplateDefaults
from mlx_server.workers.engine.prompt.segments import LIMIT_BYTES
from mlx_server.workers.engine.prompt.shortening import shortest_cut
from mlx_server.workers.engine.sequence import Sequence

if TYPE_CHECKING:
    from mlx_server.workers.engine.vision.inputs import MediaInputs

NEAR_END = 4
"""Tokens that may stand between a closed block of reasoning and the answer: line breaks."""

SEED_STRIDE = 0x5851F42D4C957F2D
"""Keeps the seeds of a request's choices apart (an odd number, Knuth's MMIX multiplier)."""

UNKNOWN_CONTEXT = 1 << 15
"""The longest answer without a limit of a model that does not say how long its context is."""

NO_TOOLS = ToolUse("none")

ROOM_SHARE = 8
"""Of a context that a conversation would overflow, this part is left to the answer: an eighth."""


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
    """A prompt's tokens, the format that the model is asked to make calls in, and what the prompt's pictures became.
    `one_call`: the answer may make no second one, for which the chat template would have no place. `ignored` are the
    paths of the request's fields that change nothing with this model, `dropped` is how many messages were left out."""

    tokens: list[int]
    format: ToolFormat
    one_call: bool = False
    media: MediaInputs | None = None
    ignored: tuple[str, ...] = ()
    dropped: int = 0


MEMORY_BOUNDS = " The model would take more: the memory that it may have here does not hold more KV states."


class PromptMaker:
    """Turns requests into sequences. `context_length` is None where the model does not say."""

    def __init__(
        self,
        tokenizer: Any,
        vocab_size: int,
        context_length: int | None,
        model_defaults: Sampling,
        vocabulary: Vocabulary,
        output_format: OutputFormat,
        templates: TemplateDefaults | None = None,
        media: MediaSupport | None = None,
        *,
        finds_marks: bool = False,
        memory_bounds: bool = False,
        kept_bytes: int = LIMIT_BYTES,
    ) -> None:
        """`finds_marks`: the engine makes use of the places that clients mark. `memory_bounds`: the model would take
        longer contexts, but memory holds no more. `kept_bytes`: of texts and their ids, at most."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._context_length = context_length
        self.model_defaults = model_defaults
        self._vocabulary = vocabulary
        self._format = output_format.format
        self._marks = output_format.thinking
        self._finds_marks = finds_marks
        self._why = MEMORY_BOUNDS if memory_bounds else ""
        self.renderer = ChatRenderer(tokenizer, self._check_length, templates, media=media, kept_bytes=kept_bytes)

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self._tokenizer.get_vocab()))

    @cached_property
    def _calls(self) -> CallGrammars:
        return CallGrammars(self._vocabulary, special_tokens(self._tokenizer, self._vocabulary))

    def close(self) -> None:
        """End what was started for clients' templates and grammars. Idempotent; from any thread."""
        self.renderer.close()
        self._vocabulary.close()

    def sequences(self, ticket: int, request: GenerationRequest) -> list[Sequence]:
        """One sequence for each choice of each prompt. Raises InvalidRequest."""
        sampling = in_force(request.sampling, self.model_defaults)
        self._check_ids(sampling.logit_bias, "logit_bias")
        self._check_ids(request.limits.stop_token_ids, "stop_token_ids")
        if request.logprobs is not None or request.prompt_logprobs is not None:
            self._vocabulary.prepare()
        sequences: list[Sequence] = []
        owner = request.tenant if request.use_cache else None
        for prompt in request.prompts:
            read = self.read(prompt, request.tool_use, owner)
            check_scored(request, read)
            tokens, format_ = read.tokens or self._start(), read.format
            budget, ignored = request.thinking_budget, read.ignored
            if budget is not None and self._marks is None:  # a model that does not reason keeps to any budget
                budget, ignored = None, (*ignored, request.budget_param)
            tool_use = msgspec.structs.replace(request.tool_use, parallel=False) if read.one_call else request.tool_use
            grammar, relaxed = self._grammar(prompt, tool_use, request.grammar, format_)
            if grammar is not None:
                check_may_end(request)
            first = Sequence(
                (ticket, len(sequences)),
                tokens,
                self._longest(request.max_tokens, len(tokens), prompt),
                sampling,
                request.limits,
                continues_text=not isinstance(prompt, ChatPrompt) or prompt.continues_last,
                prefix=SharedPrefix(request.n) if request.n > 1 else None,
                grammar=grammar,
                speech=speech_of(prompt, tool_use, format_),
                thinking=self._thinking(tokens, prompt),
                thinking_budget=budget,
                echo=self._text(prompt, tokens) if request.echo else None,
                logprobs=request.logprobs,
                prompt_logprobs=request.prompt_logprobs,
                token_ids=request.token_ids,
                tenant=request.tenant,
                use_cache=request.use_cache,
                conversation=request.conversation,
                yields=request.yields,
                ignored=(*request.ignored, *ignored, *relaxed),
                dropped_messages=read.dropped,
                media=read.media,
                marks=self._marked(prompt, request, tokens) if request.use_cache else (),
                ids=as_ids(tokens) if request.use_cache else None,
            )
            sequences.append(first)
            for i in range(1, request.n):
                matcher, _ = self._grammar(prompt, tool_use, request.grammar, format_)
                sequences.append(choice_of(first, i, matcher))
        return sequences

    def _grammar(
        self, prompt: Prompt, tool_use: ToolUse, content: Grammar | None, format_: ToolFormat
    ) -> tuple[Matcher | None, tuple[str, ...]]:
        """What the answer to this prompt must be, and the paths of what is not enforced. Raises InvalidRequest."""
        if isinstance(prompt, ChatPrompt) and enforced(prompt.tools, tool_use, content):
            return self._calls.matcher(format_, prompt.tools, tool_use, content)
        if content is None:
            return None, ()
        return self._vocabulary.compile(content), self._vocabulary.enforced(content).ignored

    def _thinking(self, tokens: list[int], prompt: Prompt) -> ThinkingStart | None:
        """Where an answer to this conversation stands: reasoning is open, has been closed, or may come."""
        if self._marks is None or not isinstance(prompt, ChatPrompt):
            return None
        thinks = starts_thinking(self._tokenizer, tokens)
        # A template that forbids reasoning ends with an empty block of it.
        just_closed = self._tokenizer.rfind_think_end(tokens[-len(self._marks.end_ids) - NEAR_END :]) >= 0
        return ThinkingStart(self._marks, thinks=thinks, may_think=not thinks and not just_closed)

    def ids_of(self, text: str) -> list[int]:
        """A text's token ids, as they stand in an answer."""
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _text(self, prompt: Prompt, tokens: list[int]) -> str:
        if isinstance(prompt, TextPrompt):
            return prompt.text
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def beginning_with(self, system: str) -> list[int]:
        """The tokens that all conversations with this system prompt begin with. Raises InvalidRequest."""
        one, other = (
            self.tokens(ChatPrompt((Message("system", system), Message("user", text))), NO_TOOLS) for text in ("a", "b")
        )
        return [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]

    def tokens(self, prompt: Prompt, tool_use: ToolUse, owner: str | None = None) -> list[int]:
        """A prompt's token ids, none of them beyond the vocabulary, none for an empty text. Raises InvalidRequest."""
        return self.read(prompt, tool_use, owner).tokens

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Tokens as the vocabulary writes them; empty for an id that has no token."""
        return [piece or "" for piece in self._tokenizer.convert_ids_to_tokens(list(ids))]

    def text(self, ids: Iterable[int]) -> str:
        """The text of tokens, special ones included. Raises InvalidRequest for an id that is not in the vocabulary."""
        ids = list(ids)
        self._check_ids(ids, "tokens")
        return str(self._tokenizer.decode(ids))

    def read(self, prompt: Prompt, tool_use: ToolUse = NO_TOOLS, owner: str | None = None) -> TokenisedPrompt:
        """A prompt's tokens, none of them beyond the vocabulary, and what it shows. What `owner` has sent before is
        not tokenised again; for None nothing is kept. Raises InvalidRequest."""
        match prompt:
            case ChatPrompt():
                (rendered, dropped), field = self._fitting(prompt, tool_use, owner), prompt.param
                format_ = HERMES if rendered.described_tools else self._format
                read = TokenisedPrompt(
                    rendered.tokens, format_, rendered.one_call, rendered.media, rendered.ignored, dropped
                )
            case TextPrompt():
                self._check_length(len(prompt.text) + len(prompt.suffix or ""), "prompt")
                read, field = TokenisedPrompt(self._encode(prompt), self._format), "prompt"
            case _:
                read, field = TokenisedPrompt(list(prompt.ids), self._format), "prompt"
        self._check_ids(read.tokens, field)
        return read

    def _fitting(self, prompt: ChatPrompt, tool_use: ToolUse, owner: str | None) -> tuple[Rendered, int]:
        """The prompt, and how many messages were left out of it. Raises InvalidRequest."""
        if not prompt.drops_oldest or self._context_length is None:
            return self._render(prompt, tool_use, owner), 0
        return shortest_cut(
            prompt, lambda shorter: self._render(shorter, tool_use, owner), self._context_length, ROOM_SHARE
        )

    def _marked(self, prompt: Prompt, request: GenerationRequest, tokens: list[int]) -> tuple[int, ...]:
        """The lengths of the prompt's beginnings that its client marks."""
        if not self._finds_marks or not isinstance(prompt, ChatPrompt):
            return ()
        found = []
        for shorter in marked_beginnings(prompt):
            with contextlib.suppress(InvalidRequest):  # some templates refuse a conversation that ends there
                found.append(common(self.tokens(shorter, request.tool_use, request.tenant), tokens))
        return tuple(found)

    def _render(self, prompt: ChatPrompt, tool_use: ToolUse, owner: str | None) -> Rendered:
        try:
            self._check_length(sum(len(message.content) for message in prompt.messages), "messages")
            return self.renderer.render(prompt, tool_use, owner)
        except InvalidRequest as error:
            if error.param == "messages":
                error.param = prompt.param
            raise

    def _check_length(self, characters: int, field: str) -> None:
        """Refuse what can't fit before it is tokenised, which takes seconds for megabytes."""
        if self._context_length is None or characters <= self._context_length:
            return
        if (tokens := characters // self._longest_token) > self._context_length:
            raise too_long(tokens, self._context_length, field, " or more", self._why)

    def _check_ids(self, ids: Collection[int], field: str) -> None:
        """The model looks ids up without checking them. Raises InvalidRequest."""
        for id_ in (min(ids), max(ids)) if ids else ():
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
        return list(self._tokenizer.encode(prompt.text, add_special_tokens=prompt.special))

    def _longest(self, wanted: int, prompt_tokens: int, prompt: Prompt) -> int:
        """How many tokens may follow. Raises InvalidRequest if there is no place for one."""
        if self._context_length is None:
            return wanted if wanted < NO_LIMIT else UNKNOWN_CONTEXT
        if prompt_tokens >= self._context_length:
            field = prompt.param if isinstance(prompt, ChatPrompt) else "prompt"
            raise too_long(prompt_tokens, self._context_length, field, why=self._why)
        return min(wanted, self._context_length - prompt_tokens)


def check_scored(request: GenerationRequest, read: TokenisedPrompt) -> None:
    """Refuse to score what is read as tokens only. Raises InvalidRequest."""
    if request.prompt_logprobs is not None and read.media is not None:
        message = "`prompt_logprobs` can't be had for a prompt with pictures, sounds or films: leave it out."
        raise InvalidRequest(message, "prompt_logprobs")


def check_may_end(request: GenerationRequest) -> None:
    """Refuse limits by which an answer must not end where its grammar ends it. Raises InvalidRequest."""
    limits = request.limits
    if limits.min_tokens or limits.ignore_eos:
        field = "min_tokens" if limits.min_tokens else "ignore_eos"
        other = "calls that are enforced" if request.grammar is None else f"`{request.grammar.param}`"
        raise InvalidRequest(f"`{field}` can't be kept together with {other}: leave one out.", field)


def speech_of(prompt: Prompt, tool_use: ToolUse, format_: ToolFormat) -> Speech | None:
    """What the answer to this prompt may hold beside text."""
    if not isinstance(prompt, ChatPrompt):
        return None
    return Speech(prompt.tools, tool_use, hermes=format_ is HERMES)


def choice_of(first: Sequence, choice: int, grammar: Matcher | None = None) -> Sequence:
    """Another choice of the same prompt; its seed is its own, as its matcher. The prompt is scored for the first one
    only."""
    sampling = first.sampling
    if sampling.seed is not None:
        sampling = msgspec.structs.replace(sampling, seed=sampling.seed + choice * SEED_STRIDE)
    key = (first.key[0], first.key[1] + choice)
    return replace(first, key=key, sampling=sampling, grammar=grammar, prompt_logprobs=None, follows=True, emitted=[])


def too_long(tokens: int, context_length: int, field: str, rest: str = "", why: str = "") -> InvalidRequest:
    """The refusal of a prompt of so many tokens (`rest`: " or more"), which leaves no room for an answer; `why` that is
    too long.

    Programs look for these words, OpenAI's, vLLM's and Anthropic's, and shorten the conversation by themselves.
    """
    message = (
        f"This model's maximum context length is {context_length} tokens. However, your request has {tokens} input"
        f" tokens{rest}, and an answer needs one at least (prompt is too long: {tokens} tokens > {context_length - 1}"
        f" maximum). Please reduce the length of the messages.{why}"
    )
    return InvalidRequest(message, field, "context_length_exceeded")
