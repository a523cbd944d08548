"""Logits processors that decide what may come next: grammars, thinking budgets, least lengths.

Each follows its sequence token by token from where the sequence was inserted, so a replay only has to feed it the
tokens that were emitted before.
"""

from __future__ import annotations

from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from mlx_server.workers.engine.grammar.distinct import Matcher
from mlx_server.workers.engine.output.thinking import ThinkingState


class GrammarError(Exception):
    """Raised when a matcher can't go on: nothing that it has allowed leads there."""


class Follower:
    """Sees every token of a sequence once: first those already emitted, then one before each call."""

    def __init__(self, emitted: Iterable[int]) -> None:
        self._first = True
        for token in emitted:
            self.see(token)

    def see(self, token: int) -> None:
        """Take one token."""

    def follow(self, tokens: mx.array) -> None:
        """Take the last id of the context `tokens` [T], except in the first call: that one was seen already."""
        if not self._first:
            self.see(int(tokens[-1].item()))  # type: ignore[arg-type]
        self._first = False


class GrammarMask(Follower):
    """Masks what a grammar forbids, once the reasoning is over. Reasoning may be anything but a token that ends the
    answer: the grammar's text would be missing."""

    def __init__(self, matcher: Matcher, eos: set[int], thinking: ThinkingState | None, emitted: list[int]) -> None:
        self._matcher = matcher
        self._eos = mx.array(sorted(eos), mx.uint32)
        self._thinking = thinking
        self._no_thought = mx.array(sorted(eos.difference(thinking.closing if thinking else ())), mx.uint32)
        super().__init__(emitted)

    def see(self, token: int) -> None:
        """Advance the grammar, or the reasoning before it."""
        if self._thinking is not None and self._thinking.feed(token):
            return
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token):
            raise GrammarError(self._matcher.get_error())

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Logits [1, V] with all that the grammar forbids after the context `tokens` [T] at -inf, same dtype. Raises
        GrammarError."""
        self.follow(tokens)
        thinking = self._thinking
        if thinking is not None and thinking.thinks:
            return logits.at[:, self._no_thought].add(-mx.inf)
        allowed = self._allowed(logits.shape[-1])
        if thinking is not None and thinking.may_think:
            allowed[..., mx.array(thinking.opening[:1])] = True
        return mx.where(allowed, logits, mx.array(-mx.inf, logits.dtype))

    def forced(self, token: int) -> list[int]:
        """The ids that must follow `token`, the row's latest, as the tokenizer writes their text; none where the model
        has a choice."""
        thinking = self._thinking
        if self._matcher.is_stopped() or (thinking is not None and (thinking.thinks or thinking.may_think)):
            return []
        ahead = self._matcher.deep_copy()
        return ahead.compute_ff_tokens() if ahead.consume_token(token) else []

    def _allowed(self, vocab_size: int) -> mx.array:
        """The tokens that may come next: bool [1, V]."""
        if self._matcher.is_stopped():
            if self._matcher.is_error():
                raise GrammarError(self._matcher.get_error())
            return mx.zeros((1, vocab_size), mx.bool_).at[:, self._eos].add(True)
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if not packed.any():
            raise GrammarError("nothing may follow that differs from what is there")
        return mx.array(np.unpackbits(packed, bitorder="little")[:vocab_size].astype(np.bool_))[None]


class ThinkingBudget(Follower):
    """Ends the reasoning after `budget` tokens, by making its end mark the only choice."""

    def __init__(self, budget: int, end_ids: tuple[int, ...], thinking: ThinkingState, emitted: list[int]) -> None:
        self._budget = budget
        self._end = end_ids
        self._closing = 0
        self._thinking = thinking
        super().__init__(emitted)

    def see(self, token: int) -> None:
        """Count the tokens of reasoning, and those of the end mark that were said."""
        self._closing = self._closing + 1 if token == self._end[self._closing] else 0
        self._thinking.feed(token)
        if not self._thinking.thinks:
            self._closing = 0

    def forced(self, token: int) -> list[int]:
        """The ids of the end mark that are still to follow `token`, the row's latest, once the budget is spent."""
        if not self._thinking.thinks or self._thinking.tokens + 1 < self._budget:
            return []
        return list(self._end[self._closing + 1 if token == self._end[self._closing] else 0 :])

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Logits [1, V] after the context `tokens` [T], same dtype: once the budget is spent, the end mark's next token
        has 0 and all others -inf."""
        self.follow(tokens)
        if not self._thinking.thinks or self._thinking.tokens < self._budget:
            return logits
        only = mx.full(logits.shape, -mx.inf, dtype=logits.dtype)
        only[:, self._end[self._closing]] = 0
        return only


class LeastLength:
    """Forbids the tokens that would end a sequence while it has fewer than `until` tokens, its prompt included."""

    def __init__(self, ends: Iterable[int], until: int) -> None:
        self._ends = mx.array(sorted(ends))
        self._until = until

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """Logits [1, V], changed in place: while the context `tokens` [T] is too short, ends are at -inf."""
        if tokens.shape[0] < self._until:
            logits[:, self._ends] = -mx.inf
        return logits
