"""The rows of one batch, and what may come next in each of them: several tokens are checked in one step.

Every token that comes out is the model's own choice after the tokens before it, drawn as decoding token by token draws
it. A guess only saves a step, if it is that same token. So answers are what they are without guesses, seed for seed, up
to rounding: several tokens in one step round differently from one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from itertools import takewhile
from typing import Any, Self

import mlx.core as mx

from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn, Row, told
from mlx_server.workers.engine.passes.joined import JoinedModel
from mlx_server.workers.engine.propose.drafter import Drafter, Span
from mlx_server.workers.engine.propose.lookup import Lookup
from mlx_server.workers.engine.propose.memory import Memory
from mlx_server.workers.engine.propose.offers import Offers
from mlx_server.workers.engine.propose.ragged import RaggedBatch
from mlx_server.workers.engine.propose.telling import hidden_of
from mlx_server.workers.engine.propose.worth import MOST, NOTHING, SUREST, Guess, Worth
from mlx_server.workers.engine.sampling.sampling import Processors
from mlx_server.workers.engine.sequence import Key, Sequence

UNASKED = 7
"""Guesses of one row in a step where nobody asks what they cost."""


class ProposingBatch(RaggedBatch):
    """Decodes its rows together. A step is one token for each, or, where guesses are worth a wider step, the tokens
    that were guessed right and one more. Engine thread only."""

    def __init__(
        self,
        model: Any,
        stop_tokens: set[int],
        worth: Worth | None = None,
        memory: Memory | None = None,
        drafter: Drafter | None = None,
        *,
        vocab_size: int | None = None,
        context_length: int | None = None,
    ) -> None:
        """`worth`, `memory` and `drafter` are the same for all batches of an engine. No guess has a token from
        `vocab_size` on: tokenizers and grammars may know more tokens than the model, which looks them up unchecked.
        Nor does a step read anything at places from `context_length` on, where a model may have learned no
        positions: one row's guesses are padding in the others."""
        super().__init__(model, stop_tokens)
        self._worth = worth or Worth()
        self._memory = memory or Memory()
        self._lookups: dict[Key, Lookup] = {}
        self._drafter = drafter
        self._vocab_size = vocab_size
        self._context_length = context_length
        self._offers = None if drafter is None else Offers(drafter, self._worth)

    def join(self, sequences: list[Sequence], cache: list[Any], processors: dict[Key, Processors]) -> None:
        """As `DecodeBatch.join`."""
        self._lookups |= {one.key: self._memory.lookup(one) for one in sequences if one.speculate != "off"}
        if self._offers is not None:
            self._offers.expect(one for one in sequences if one.speculate != "off")
        super().join(sequences, cache, processors)

    def absorb(self, other: DecodeBatch) -> None:
        """As `DecodeBatch.absorb`."""
        assert isinstance(other, ProposingBatch)
        self._lookups |= other._lookups
        if self._offers is not None and other._offers is not None:
            self._offers.absorb(other._offers)
        super().absorb(other)

    def part(self, keys: Collection[Key]) -> Self:
        """As `DecodeBatch.part`."""
        lookups = {key: self._lookups.pop(key) for key in keys if key in self._lookups}
        offers = None if self._offers is None else self._offers.part(keys)
        other = super().part(keys)
        other._lookups, other._offers = lookups, offers
        return other

    def leave(self, keys: Collection[Key]) -> None:
        """As `DecodeBatch.leave`."""
        for key in keys:
            if self._lookups.pop(key, None) is not None:
                sequence = self._rows[key].sequence
                self._memory.ended(sequence)
                if self._offers is not None:
                    self._offers.ended(sequence)
        super().leave(keys)

    def step(self) -> list[Drawn]:
        """The next token of every row, or several."""
        rows = [self._rows[key] for key in self.keys]
        alone = not (isinstance(self._model, JoinedModel) and self._model.carries)
        steady = alone and not any(row.fresh or row.told for row in rows)
        drafting = self._offers is not None and self._offers.may_propose(rows, self._hidden)
        began, drawn = time.monotonic(), []
        if drafting or self._may_look_up(rows):
            known: list[int] = self._next.tolist()  # type: ignore[assignment]
            drawn = self._fetch(rows, known)
            guesses = self._guesses(rows, known, drafting=drafting)
            if any(guesses):
                guessed = time.monotonic()
                new = self._check(rows, known, guesses)
                if alone:
                    self._worth.took(len(rows), 1 + max(map(len, guesses)), time.monotonic() - guessed)
                self._follow(new)
                if self._offers is not None:
                    self._offers.follow(new)
                return drawn + new
        new = super().step()
        self._follow(new)
        if steady:
            seconds = time.monotonic() - began
            self._worth.took(len(rows), 1, seconds)
            if self._drafter is not None:
                self._drafter.pace.steps.append((seconds, len(rows)))
        return drawn + new

    def _empty(self) -> Self:
        return type(self)(
            self._model,
            self._stop_tokens,
            self._worth,
            self._memory,
            self._drafter,
            vocab_size=self._vocab_size,
            context_length=self._context_length,
        )

    def _hidden(self, spans: Collection[Span]) -> mx.array:
        """As `Hidden`: states [B, T, D]."""
        return hidden_of(self._cache[-1], [(self.keys.index(key), start, stop) for key, start, stop in spans])

    def _may_look_up(self, rows: list[Row]) -> bool:
        """Whether guesses seem worth waiting for the latest tokens."""
        if not self._lookups or any(row.fresh for row in rows):
            return False
        found = []
        for row in rows:
            lookup = self._lookups.get(row.sequence.key)
            if lookup is None:
                continue
            if row.processors is not None and row.processors.may_force:
                return True  # it waits for them in any case
            if lookup.source is None:
                continue
            unknown = 0 if row.told else 1
            count = min(len(lookup.guess(MOST + unknown)), row.left) - unknown
            if count > 0:
                found.append((count, lookup.odds))
                if row.sequence.speculate == "ngram":
                    return True
        return bool(found) and self._worth.best(len(rows), found).width > 1

    def _fetch(self, rows: list[Row], known: list[int]) -> list[Drawn]:
        """The latest tokens of rows that have not been returned yet."""
        drawn = []
        for row, token in zip(rows, known, strict=True):
            if not row.told:
                row.told = True
                drawn.append(told(row, token, row.drawn))
        self._follow(drawn)
        return drawn

    def _follow(self, drawn: list[Drawn]) -> None:
        """Take in the rows' new tokens."""
        for one in drawn:
            if (lookup := self._lookups.get(one.key)) is not None:
                lookup.follow(one.token)

    def _guesses(self, rows: list[Row], known: list[int], *, drafting: bool) -> list[list[int]]:
        """What may follow each row's latest token, as much of it as is worth a check."""
        found = [self._guess(row, token) for row, token in zip(rows, known, strict=True)]
        plan = self._worth.best(len(rows), [(len(one.tokens), one.odds) for one in found if one.tokens])
        if drafting and self._offers is not None:
            found, plan = self._offers.improve(rows, known, found, plan, self._hidden)
        room = self._room(rows)
        return [one.tokens[: min(max(plan.width - 1, one.asked), room)] for one in found]

    def _room(self, rows: list[Row]) -> int:
        """How many guesses every row has places for, after its latest token."""
        if self._context_length is None:
            return MOST
        return max(0, self._context_length - 1 - max(row.length for row in rows))

    def _guess(self, row: Row, token: int) -> Guess:
        """What may follow a row's latest token, without a draft model."""
        lookup, most = self._lookups.get(row.sequence.key), min(MOST, row.left - 1)
        if lookup is None or most < 1:
            return NOTHING
        if row.processors is not None and (forced := row.processors.forced(token)):
            return Guess(self._known(forced[:most]), SUREST)
        return Guess(self._known(lookup.guess(most)), lookup.odds, UNASKED if row.sequence.speculate == "ngram" else 0)

    def _known(self, tokens: list[int]) -> list[int]:
        """The tokens before the first that the model does not know."""
        size = self._vocab_size
        return tokens if size is None else list(takewhile(lambda token: token < size, tokens))
