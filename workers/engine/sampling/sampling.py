"""How a row's next token is chosen: samplers and logits processors.

mlx-lm's own are not used: they compile anew for each distinct parameter, draw from one random state for all rows, and
count the prompt's tokens in OpenAI's penalties.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import mlx.core as mx

from mlx_server.schemas.internal.generation import Sampling
from mlx_server.workers.engine.sampling.constraints import GrammarMask, LeastLength, ThinkingBudget
from mlx_server.workers.engine.sequence import Sequence

GREEDY_BELOW = 1e-5
"""Temperatures and `top_p` below this mean greedy decoding: float32 can't hold the quotients, and all tokens would be
equally likely."""

Sampler = Callable[[mx.array], mx.array]
"""Log-probabilities [B, V] in nats to token ids uint32 [B]."""

Processor = Callable[[mx.array, mx.array], mx.array]
"""One row's token ids [T] so far and its logits [1, V] to logits [1, V] of the same dtype."""


class Choice(NamedTuple):
    """The parameters of a draw."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float


def choice_of(sampling: Sampling) -> Choice | None:
    """The parameters that a request's tokens are drawn with; None for greedy decoding."""
    temperature, top_p = sampling.temperature or 0.0, 1.0 if sampling.top_p is None else sampling.top_p
    if min(temperature, top_p) < GREEDY_BELOW or sampling.top_k == 1:
        return None
    return Choice(temperature, top_p, sampling.top_k or 0, sampling.min_p or 0.0)


def make_sampler(sequence: Sequence) -> Sampler | None:
    """The sampler of a sequence that runs alone; None for greedy decoding."""
    choice, seed = choice_of(sequence.sampling), sequence.sampling.seed
    if choice is None:
        return None
    if seed is None:
        return partial(draw_freely, choice)
    return SeededSampler(seed, len(sequence.emitted), choice)


def draw_freely(choice: Choice, logprobs: mx.array) -> mx.array:
    """Token ids uint32 [B] drawn from log-probabilities [B, V] in nats, with the thread's random state."""
    return mx.random.categorical(filtered(logprobs, *choice[1:]) * (1 / choice.temperature))


class SeededSampler:
    """Draws with keys made of the seed and the token's position: the same draw beside any neighbours, and after a
    replay."""

    def __init__(self, seed: int, position: int, choice: Choice) -> None:
        self._seed = seed
        self._position = position
        self._choice = choice

    def __call__(self, logprobs: mx.array) -> mx.array:
        """The token id uint32 [1] of the next position, from its log-probabilities [1, V] in nats."""
        self._position += 1
        return self.at(self._position - 1, logprobs)

    def at(self, position: int, logprobs: mx.array) -> mx.array:
        """The token id uint32 [1] of a position, from its log-probabilities [1, V] in nats; positions may come in any
        order."""
        weights = filtered(logprobs, *self._choice[1:]) * (1 / self._choice.temperature)
        return mx.argmax(weights + noise([counter_key(self._seed, position)], weights.shape[-1]), axis=-1)


def noise(keys: list[int], width: int) -> mx.array:
    """Gumbel noise float32 [B, width], one row per 64-bit key: the argmax of log-weights plus this noise is a draw by
    the weights."""
    words = mx.array([(key >> 32, key & 0xFFFFFFFF) for key in keys], mx.uint32)
    rows: mx.array = mx.vmap(lambda key: mx.random.gumbel((width,), key=key))(words)
    return rows


def counter_key(seed: int, position: int) -> int:
    """A 64-bit key for one draw: splitmix64's finaliser over seed and position (Steele et al., 2014)."""
    mask = (1 << 64) - 1
    z = (seed + (position + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def filtered(logprobs: mx.array, top_p: float, top_k: int, min_p: float) -> mx.array:
    """Log-probabilities [B, V] in nats as float32 [B, V], with what the filters exclude at -inf. The filters run in
    mlx-lm's order, at temperature 1.

    In half precision, the sum of many small probabilities would stop growing long before it reaches `top_p`.
    """
    logprobs = logprobs.astype(mx.float32)
    if 0 < top_p < 1:
        logprobs = keep_top_p(logprobs, top_p)
    if min_p > 0:
        floor = mx.max(logprobs, axis=-1, keepdims=True) + mx.log(mx.array(min_p))
        logprobs = mx.where(logprobs < floor, -mx.inf, logprobs)
    if 0 < top_k < logprobs.shape[-1]:
        kth = -mx.partition(-logprobs, kth=top_k - 1, axis=-1)[..., top_k - 1 : top_k]
        logprobs = mx.where(logprobs < kth, -mx.inf, logprobs)
    return logprobs


def keep_top_p(logprobs: mx.array, top_p: float | mx.array) -> mx.array:
    """Log-probabilities [B, V] in nats with all tokens outside the nucleus at -inf: it is the smallest set of most
    probable tokens whose probabilities sum to `top_p` (one number, or float32 [B, 1]) or more. Same dtype."""
    order = mx.argsort(-logprobs, axis=-1)
    ordered = mx.exp(mx.take_along_axis(logprobs, order, axis=-1))
    before = mx.cumsum(ordered, axis=-1) - ordered
    kept = mx.put_along_axis(mx.zeros(logprobs.shape, mx.bool_), order, before < top_p, axis=-1)
    return mx.where(kept, logprobs, -mx.inf)


class Processors:
    """All processors of one row's logits as one call, before sampling.

    An exception inside the engine's step would spoil the other rows, so it is kept in `error` instead.
    """

    def __init__(self, processors: list[Processor]) -> None:
        self._processors = processors
        self._forcing = [one for one in processors if isinstance(one, GrammarMask | ThinkingBudget)]
        self.error: Exception | None = None

    @property
    def may_force(self) -> bool:
        """Whether some tokens may be forced."""
        return bool(self._forcing)

    def forced(self, token: int) -> list[int]:
        """The ids that must follow `token`, the row's latest."""
        return next((ids for one in self._forcing if (ids := one.forced(token))), [])

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """The logits [1, V] of one row after all processors, same dtype, given its token ids [T] so far; unchanged once
        `error` is set."""
        if self.error is not None:
            return logits
        try:
            for process in self._processors:
                logits = process(tokens, logits)
        except Exception as error:  # noqa: BLE001 - whatever a processor raises ends its own sequence only
            self.error = error
        return logits


def end_tokens(sequence: Sequence, stop_tokens: set[int]) -> set[int]:
    """The tokens that end a sequence: the model's own, and those that the request names."""
    limits = sequence.limits
    return (set() if limits.ignore_eos else stop_tokens) | set(limits.stop_token_ids)


def make_processors(sequence: Sequence, stop_tokens: set[int]) -> Processors | None:
    """The processors that a sequence needs; None if it needs none."""
    s = sequence.sampling
    processors: list[Processor] = []
    if s.logit_bias:
        processors.append(partial(add_bias, mx.array(list(s.logit_bias)), mx.array(list(s.logit_bias.values()))))
    if s.repetition_penalty not in (None, 1.0):
        processors.append(partial(penalise_repetition, s.repetition_penalty, s.repetition_context_size))
    if s.presence_penalty or s.frequency_penalty:
        start = len(sequence.prompt)
        processors.append(partial(penalise_counts, start, s.presence_penalty, s.frequency_penalty))
    if sequence.limits.min_tokens:
        until = len(sequence.prompt) + sequence.limits.min_tokens
        processors.append(LeastLength(end_tokens(sequence, stop_tokens) | stop_tokens, until))
    processors += constraints(sequence, stop_tokens)
    return Processors(processors) if processors else None


def constraints(sequence: Sequence, stop_tokens: set[int]) -> list[Processor]:
    """The processors of the thinking budget and, with the last word, of the grammar."""
    found: list[Processor] = []
    thinking, budget = sequence.thinking, sequence.thinking_budget
    if thinking is not None and budget is not None:
        found.append(ThinkingBudget(budget, thinking.marks.end_ids, thinking.state(), sequence.emitted))
    if sequence.grammar is not None:
        state = thinking.state() if thinking is not None else None
        found.append(GrammarMask(sequence.grammar.deep_copy(), stop_tokens, state, sequence.emitted))
    return found


def add_bias(ids: mx.array, values: mx.array, _: mx.array, logits: mx.array) -> mx.array:
    """Logits [1, V] plus `values` [K], cast to the logits' dtype, at token ids [K]. The row's own tokens are not
    used."""
    return logits.at[:, ids].add(values.astype(logits.dtype))


def penalise_repetition(penalty: float, window: int, tokens: mx.array, logits: mx.array) -> mx.array:
    """Logits [1, V], changed in place: for each of the last `window` ids of `tokens` [T], a positive logit is divided
    by `penalty` and a negative one multiplied by it (Keskar et al., 2019)."""
    recent = tokens[-window:]
    chosen = logits[:, recent]
    logits[:, recent] = mx.where(chosen < 0, chosen * penalty, chosen / penalty)
    return logits


def penalise_counts(start: int, presence: float, frequency: float, tokens: mx.array, logits: mx.array) -> mx.array:
    """Logits [1, V] with OpenAI's penalties, same dtype: `logit - frequency * count - presence * (count > 0)`, where
    ids of `tokens` [T] are counted from place `start` on."""
    generated = tokens[start:]
    if not generated.size:
        return logits
    counts = mx.zeros(logits.shape[-1:]).at[generated].add(1)
    # A row of a wider type would widen its neighbours' too, and so change what their seeds draw.
    return logits - (frequency * counts + presence * (counts > 0)).astype(logits.dtype)
