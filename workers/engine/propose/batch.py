"""The rows of one batch, each of which may be read several tokens at once: its last one, and what may come next.

Every token that comes out is the model's own choice after the tokens before it, drawn as decoding token by token draws
it. A guess only saves a step, if it is that same token. So answers are what they are without guesses, seed for seed, up
to rounding: several tokens in one step round differently from one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn, Row, told
from mlx_server.workers.engine.kvcache.holes import closed, cut
from mlx_server.workers.engine.propose.lookup import Lookup
from mlx_server.workers.engine.propose.memory import Memory
from mlx_server.workers.engine.propose.worth import MOST, SUREST, Worth
from mlx_server.workers.engine.sampling.batch_sampler import best
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sampling.sampling import Processors
from mlx_server.workers.engine.sequence import Key, Sequence

UNASKED = 7
"""Guesses of one row in a step where nobody asks what they cost."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The model's own tokens in one row's step, up to the first that was not guessed, and what they were drawn from:
    logits [K, V]."""

    tokens: list[int]
    logits: mx.array


class ProposingBatch(DecodeBatch):
    """Decodes its rows together. A step is one token for each, or, where guesses are worth a wider step, the tokens
    that were guessed right and one more. Engine thread only."""

    def __init__(
        self,
        model: Any,
        stop_tokens: set[int],
        worth: Worth | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`worth` and `memory` are the same for all batches of an engine."""
        super().__init__(model, stop_tokens)
        self._worth = worth or Worth()
        self._memory = memory or Memory()
        self._lookups: dict[Key, Lookup] = {}

    def join(self, sequences: list[Sequence], cache: list[Any], processors: dict[Key, Processors]) -> None:
        """As `DecodeBatch.join`."""
        self._lookups |= {one.key: self._memory.lookup(one) for one in sequences if one.speculate != "off"}
        super().join(sequences, cache, processors)

    def absorb(self, other: DecodeBatch) -> None:
        """As `DecodeBatch.absorb`."""
        assert isinstance(other, ProposingBatch)
        other._close()
        self._lookups |= other._lookups
        super().absorb(other)

    def part(self, keys: Collection[Key]) -> ProposingBatch:
        """As `DecodeBatch.part`."""
        self._close()
        lookups = {key: self._lookups.pop(key) for key in keys if key in self._lookups}
        other = super().part(keys)
        assert isinstance(other, ProposingBatch)
        other._lookups, other._worth, other._memory = lookups, self._worth, self._memory
        return other

    def leave(self, keys: Collection[Key]) -> None:
        """As `DecodeBatch.leave`."""
        if not self._rows.keys().isdisjoint(keys):
            self._close()
        for key in keys:
            if self._lookups.pop(key, None) is not None:
                self._memory.ended(self._rows[key].sequence)
        super().leave(keys)

    def state(self, key: Key) -> tuple[list[Any], int] | None:
        """As `DecodeBatch.state`."""
        if key in self._rows:
            self._close()
        return super().state(key)

    def step(self) -> list[Drawn]:
        """The next token of every row, or several."""
        rows = [self._rows[key] for key in self.keys]
        steady = not any(row.fresh or row.told for row in rows)
        began, drawn = time.monotonic(), []
        if self._may_propose(rows):
            known: list[int] = self._next.tolist()  # type: ignore[assignment]
            drawn = self._fetch(rows, known)
            fetched, guesses = time.monotonic(), self._guesses(rows, known)
            if any(guesses):
                drawn += self._check(rows, known, guesses)
                self._worth.took(len(rows), 1 + max(map(len, guesses)), time.monotonic() - fetched)
                return drawn
        new = super().step()
        self._follow(new)
        if steady:
            self._worth.took(len(rows), 1, time.monotonic() - began)
        return drawn + new

    def _may_propose(self, rows: list[Row]) -> bool:
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
        return bool(found) and self._worth.width(len(rows), found) > 1

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
        for one in drawn:
            if (lookup := self._lookups.get(one.key)) is not None:
                lookup.follow(one.token)

    def _guesses(self, rows: list[Row], known: list[int]) -> list[list[int]]:
        """What may follow each row's latest token, as much of it as is worth a check."""
        found = [self._guess(row, token) for row, token in zip(rows, known, strict=True)]
        most = self._worth.width(len(rows), [(len(guess), odds) for guess, odds in found if guess]) - 1
        always = [row.sequence.speculate == "ngram" for row in rows]
        return [guess[: max(most, UNASKED) if all_ else most] for (guess, _), all_ in zip(found, always, strict=True)]

    def _guess(self, row: Row, token: int) -> tuple[list[int], float]:
        """What may follow a row's latest token, and the odds of each to be right."""
        lookup, most = self._lookups.get(row.sequence.key), min(MOST, row.left - 1)
        if lookup is None or most < 1:
            return [], 0.0
        if row.processors is not None and (forced := row.processors.forced(token)):
            return forced[:most], SUREST
        return lookup.guess(most), lookup.odds

    def _check(self, rows: list[Row], known: list[int], guesses: list[list[int]]) -> list[Drawn]:
        """Read each row's latest token and its guesses; the guesses that were right, and the token after them."""
        width = 1 + max(map(len, guesses))
        ids = [[last, *guess, *[0] * (width - 1 - len(guess))] for last, guess in zip(known, guesses, strict=True)]
        logits = self._model(mx.array(ids, mx.uint32), cache=self._cache)
        choices = self._choices(rows, known, guesses, logits)
        drawn: list[Drawn] = []
        surplus, last = [], []
        for row, guess, chosen, before in zip(rows, guesses, choices, known, strict=True):
            new: list[Drawn] = []
            while row.left and len(new) < len(chosen.tokens):
                report = None if row.sequence.logprobs is None else log_softmax(chosen.logits[len(new)][None])
                new.append(told(row, chosen.tokens[len(new)], report))
            self._follow(new)
            right = min(len(new), max(0, len(chosen.tokens) - 1))
            row.length += 1 + right
            row.sequence.drafted += len(guess)
            row.sequence.accepted += right
            surplus.append(width - 1 - right)
            last.append(new[-1].token if new else before)
            drawn += new
        self._cut(surplus)
        self._count_step()
        self._next = mx.array(last, mx.uint32)
        return drawn

    def _choices(self, rows: list[Row], known: list[int], guesses: list[list[int]], logits: mx.array) -> list[Choices]:
        """Each row's own tokens from logits [B, T, V] of its latest token and its guesses."""
        self._draw = self._draw or self._samplers.drawing(self.keys)
        places = self._samplers.places(self.keys)
        if self._draw is best:
            own = best(logits)
        else:
            own = mx.stack([self._draw(logits[:, number]) for number in range(logits.shape[1])], axis=1)
        drawn: list[list[int]] = own.tolist()  # type: ignore[assignment]
        choices = []
        for number, (row, guess) in enumerate(zip(rows, guesses, strict=True)):
            key = row.sequence.key
            self._samplers.go_to(key, places[number])
            if row.processors is not None and row.left:
                choices.append(self._one_by_one(row, row.processors, [known[number], *guess], logits[number]))
                continue
            tokens = drawn[number][: 1 + agreement(drawn[number], guess)]
            self._samplers.go_to(key, places[number] + len(tokens))
            choices.append(Choices(tokens, logits[number]))
        return choices

    def _one_by_one(self, row: Row, processors: Processors, fed: list[int], logits: mx.array) -> Choices:
        """A row's own tokens from logits [T, V] of the tokens `fed` to it. Processors follow a sequence token by token
        and can't go back, so they never see a place behind a wrong guess."""
        assert row.context is not None
        draw = self._samplers.drawing([row.sequence.key])
        tokens: list[int] = []
        seen: list[mx.array] = []
        for place, token in enumerate(fed):
            context = row.context.update_and_fetch(mx.array([token], mx.uint32))
            seen.append(processors(context, logits[place : place + 1]))
            tokens.append(int(draw(seen[-1]).item()))  # type: ignore[arg-type]
            if tokens[-1] in row.ends or [tokens[-1]] != fed[place + 1 : place + 2]:
                break
        return Choices(tokens, mx.concatenate(seen))

    def _cut(self, surplus: list[int]) -> None:
        """Forget the last tokens of each row's cache, so many of each."""
        if self._single:
            for layer in self._cache:
                layer.trim(surplus[0])
        else:
            self._cache = cut(self._cache, surplus)

    def _append(self, keys: list[Key], cache: list[Any], last: mx.array, *, single: bool) -> None:
        self._close()
        super()._append(keys, cache, last, single=single)

    def _close(self) -> None:
        self._cache = closed(self._cache)


def agreement(tokens: list[int], guess: list[int]) -> int:
    """How many tokens of a guess are right."""
    return next((place for place, token in enumerate(guess) if token != tokens[place]), len(guess))
