"""The rows of one batch, each of which may be read several tokens in a step, and keep as many of them as were right."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import mlx.core as mx

from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn, Row, told
from mlx_server.workers.engine.kvcache.holes import closed
from mlx_server.workers.engine.propose.forgetting import forget, states_of
from mlx_server.workers.engine.sampling.batch_sampler import best
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sampling.sampling import Processors
from mlx_server.workers.engine.sequence import Key


@dataclass(frozen=True, slots=True)
class Choices:
    """The model's own tokens in one row's step, up to the first that was not guessed, and what they were drawn from:
    logits [K, V]."""

    tokens: list[int]
    logits: mx.array


class RaggedBatch(DecodeBatch):
    """Decodes its rows together, whose caches are cut each by another number of tokens. Engine thread only."""

    def absorb(self, other: DecodeBatch) -> None:
        """As `DecodeBatch.absorb`."""
        assert isinstance(other, RaggedBatch)
        other._close()
        super().absorb(other)

    def part(self, keys: Collection[Key]) -> Self:
        """As `DecodeBatch.part`."""
        self._close()
        return super().part(keys)

    def leave(self, keys: Collection[Key]) -> None:
        """As `DecodeBatch.leave`."""
        if not self._rows.keys().isdisjoint(keys):
            self._close()
        super().leave(keys)

    def state(self, key: Key) -> tuple[list[Any], int] | None:
        """As `DecodeBatch.state`."""
        if key in self._rows:
            self._close()
        return super().state(key)

    def _check(self, rows: list[Row], known: list[int], guesses: list[list[int]]) -> list[Drawn]:
        """Read each row's latest token and its guesses; the guesses that were right, and the token after them."""
        width = 1 + max(map(len, guesses))
        ids = [[last, *guess, *[0] * (width - 1 - len(guess))] for last, guess in zip(known, guesses, strict=True)]
        states = states_of(self._cache)
        logits = self._model(mx.array(ids, mx.uint32), cache=self._cache)
        choices = self._choices(rows, known, guesses, logits)
        drawn: list[Drawn] = []
        surplus, last = [], []
        for row, guess, chosen, before in zip(rows, guesses, choices, known, strict=True):
            new: list[Drawn] = []
            while row.left and len(new) < len(chosen.tokens):
                report = None if row.sequence.logprobs is None else log_softmax(chosen.logits[len(new)][None])
                new.append(told(row, chosen.tokens[len(new)], report))
            right = min(len(new), max(0, len(chosen.tokens) - 1))
            row.length += 1 + right
            row.sequence.drafted += len(guess)
            row.sequence.accepted += right
            surplus.append(width - 1 - right)
            last.append(new[-1].token if new else before)
            drawn += new
        self._cache = forget(self._model, self._cache, states, ids, surplus)
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

    def _append(self, keys: list[Key], cache: list[Any], last: mx.array, *, single: bool) -> None:
        self._close()
        super()._append(keys, cache, last, single=single)

    def _close(self) -> None:
        self._cache = closed(self._cache)


def agreement(tokens: list[int], guess: list[int]) -> int:
    """How many tokens of a guess are right."""
    return next((place for place, token in enumerate(guess) if token != tokens[place]), len(guess))
