"""What a draft model thinks comes next in each row of a batch.

It draws with the keys that the model draws with, which makes its proposals likelier to be right. It reads nothing while
its proposals are not worth their time, and catches up, chunk by chunk beside the rows' own steps, once they may be.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

import mlx.core as mx
import msgspec

from mlx_server.schemas.internal.generation import NO_LIMIT
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Drawn, Row
from mlx_server.workers.engine.propose.drafter import CATCHES_UP, FIRST_ODDS, Drafter, State
from mlx_server.workers.engine.propose.lookup import LEARNS
from mlx_server.workers.engine.propose.ragged import RaggedBatch
from mlx_server.workers.engine.propose.worth import SUREST, Guess, Plan, Worth
from mlx_server.workers.engine.sequence import Key, Sequence

PAUSE = 16
"""Steps for which nothing is proposed where it does not pay."""

RECOVERS = 1 / 1024
"""How far odds go back to FIRST_ODDS with each pause: another passage may be easier."""


@dataclass(eq=False, slots=True)
class Side:
    """What there is of a row: how often a proposal was right of late, from 0 to 1, and, while the draft model is behind
    with it, what was read."""

    odds: float
    state: State | None = None


class Drafts(RaggedBatch):
    """The draft model's side of one batch: the rows that it has nearly caught up with. Engine thread only."""

    def __init__(self, drafter: Drafter, worth: Worth) -> None:
        super().__init__(drafter.model, set())
        self._drafter = drafter
        self._worth = worth
        self._pause = 0
        """Steps until it is asked again whether proposals are worth their time."""
        self._sides: dict[Key, Side] = {}
        """Of all rows of the batch that guess."""
        self._proposed: dict[Key, list[int]] = {}

    def _empty(self) -> Self:
        return type(self)(self._drafter, self._worth)

    def absorb(self, other: DecodeBatch) -> None:
        """As `DecodeBatch.absorb`, if the other has any rows."""
        assert isinstance(other, Drafts)
        self._sides |= other._sides
        if other.keys:
            super().absorb(other)

    def part(self, keys: Collection[Key]) -> Self:
        """As `DecodeBatch.part`, for those of the rows that it has."""
        sides = {key: self._sides.pop(key) for key in keys if key in self._sides}
        own = [key for key in self.keys if key in keys]
        if 0 < len(own) < len(self.keys):
            other = super().part(own)
        else:
            other = self._empty()
            if own:
                super(Drafts, other).absorb(self)
                self.leave(own)
        other._sides = sides
        return other

    def expect(self, sequences: Iterable[Sequence]) -> None:
        """Take in rows that join the batch. Those without a seed get one, so that both models draw alike."""
        for sequence in sequences:
            self._sides[sequence.key] = Side(self._drafter.odds)
            if sequence.sampling.seed is None:
                sequence.sampling = msgspec.structs.replace(sequence.sampling, seed=secrets.randbits(63))

    def ended(self, sequence: Sequence) -> None:
        """Part with a row that leaves the batch, and keep what was read of it."""
        side = self._sides.pop(sequence.key)
        if (state := self.state(sequence.key) or side.state) is not None:
            self._drafter.keep(sequence, state)
        self.leave([sequence.key])

    def may_propose(self, rows: list[Row]) -> bool:
        """Whether proposals to some rows [B], all of the batch's, seem worth their time. Reads on where it is
        behind."""
        self._proposed = {}
        if any(row.fresh for row in rows):
            return False
        wanted = [row for row in rows if self._drafter.count(row)]
        if not self._are_worth_it(rows, wanted):
            wanted = [row for row in wanted if row.sequence.draft_tokens]
        if not wanted:
            return False
        self._put_off(wanted)
        self._read(wanted)
        return bool(self.keys)

    def improve(self, rows: list[Row], known: list[int], found: list[Guess], plan: Plan) -> tuple[list[Guess], Plan]:
        """What may follow the rows' latest tokens `known` [B], and the plan of the step: with proposals instead
        of what was `found` where these are likelier, or asked for, and worth their time."""
        counts = [self._count(row, guess) for row, guess in zip(rows, found, strict=True)]
        odds = [self._sides[row.sequence.key].odds if count else 0.0 for row, count in zip(rows, counts, strict=True)]
        asked = [(row.sequence.draft_tokens or 0) if count else 0 for row, count in zip(rows, counts, strict=True)]
        mixed = [
            (count, chance) if count else (len(guess.tokens), guess.odds)
            for guess, count, chance in zip(found, counts, odds, strict=True)
        ]
        drafted = self._worth.best(len(rows), [one for one in mixed if one[0]], len(self.keys))
        better = drafted.rate > plan.rate
        room = min(self._drafter.room(row) for row in rows if row.sequence.key in self._rows)
        count = min(room, max(counts), max(*asked, drafted.width - 1 if better else 0))
        if not count:
            return found, plan
        began = time.monotonic()
        proposed = self.propose(rows, known, count)
        self._worth.drafted(len(self.keys), count, time.monotonic() - began)
        guesses = [
            Guess(proposed[row.sequence.key][:most], chance, always) if most else guess
            for row, guess, most, chance, always in zip(rows, found, counts, odds, asked, strict=True)
        ]
        return guesses, drafted if better else plan

    def propose(self, rows: list[Row], known: list[int], count: int) -> dict[Key, list[int]]:
        """`count` tokens that may follow each of its rows; `known` [B] are the latest tokens of the batch's."""
        latest = {row.sequence.key: (row, token) for row, token in zip(rows, known, strict=True)}
        unread = [unread_of(*latest[key], self._rows[key].length) for key in self.keys]
        longest = max(map(len, unread))
        ids = mx.array([[*tokens, *[0] * (longest - len(tokens))] for tokens in unread], mx.uint32)
        logits = self._model(ids, self._cache)
        self._cut([longest - len(tokens) for tokens in unread])
        for key, tokens in zip(self.keys, unread, strict=True):
            own = self._rows[key]
            own.length += len(tokens)
            self._samplers.go_to(key, own.length - len(own.sequence.prompt))
        self._draw = self._draw or self._samplers.drawing(self.keys)
        ends = mx.array([len(tokens) - 1 for tokens in unread])
        proposed = [self._draw(logits[mx.arange(len(unread)), ends])]
        while len(proposed) < count:
            proposed.append(self._draw(self._model(proposed[-1][:, None], self._cache)[:, -1]))
        self._cut([count - 1] * len(unread))
        found: list[list[int]] = mx.stack(proposed, axis=1).tolist()  # type: ignore[assignment]
        self._proposed = dict(zip(self.keys, found, strict=True))
        return self._proposed

    def follow(self, drawn: list[Drawn]) -> None:
        """Compare what was proposed with the tokens that came instead."""
        for one in drawn:
            if proposed := self._proposed.get(one.key):
                right = proposed.pop(0) == one.token
                self._drafter.learn(right=right)
                self._sides[one.key].odds += LEARNS * (right - self._sides[one.key].odds)
                if not right:
                    del self._proposed[one.key]

    def _count(self, row: Row, guess: Guess) -> int:
        """How many tokens it proposes to a row instead of a guess; 0 where the guess is better."""
        if row.sequence.key not in self._rows:
            return 0
        likelier = min(self._sides[row.sequence.key].odds, SUREST) > guess.odds or not guess.tokens
        asked = bool(row.sequence.draft_tokens) and guess.odds < SUREST
        return self._drafter.count(row) if likelier or asked else 0

    def _are_worth_it(self, rows: list[Row], wanted: list[Row]) -> bool:
        """Whether proposals to the `wanted` rows seem worth their time; if not, there are none for a while."""
        if self._pause:
            self._pause -= 1
            return False
        sides = [self._sides[row.sequence.key] for row in wanted]
        offers = [(self._drafter.count(row), side.odds) for row, side in zip(wanted, sides, strict=True)]
        if self._worth.best(len(rows), offers, len(offers)).width > 1:
            return True
        self._pause = PAUSE
        for side in sides:
            side.odds = recovered(side.odds)
        self._drafter.odds = recovered(self._drafter.odds)
        return False

    def _put_off(self, wanted: list[Row]) -> None:
        """Part with rows that are not wanted any more, or have gone on without it for long."""
        lengths = {row.sequence.key: row.length for row in wanted}
        far = [key for key in self.keys if lengths.get(key, NO_LIMIT) - self._rows[key].length > CATCHES_UP]
        for key in far:
            self._sides[key].state = self.state(key)
        self.leave(far)

    def _read(self, rows: list[Row]) -> None:
        """Read a chunk of the rows that it is behind with, one after the other."""
        left = self._drafter.pace.tokens
        for row in [row for row in rows if row.sequence.key not in self._rows]:
            side = self._sides[row.sequence.key]
            before = 0 if side.state is None else side.state[1]
            side.state = cache, length = self._drafter.read(row, side.state, left)
            if length == row.length:
                self.join([row.sequence], cache, {})
                self._rows[row.sequence.key].length, side.state = length, None
            left -= length - before
            if left <= 0:
                return


def recovered(odds: float) -> float:
    """Odds after a pause."""
    return odds + RECOVERS * (FIRST_ODDS - odds)


def unread_of(row: Row, latest: int, start: int) -> list[int]:
    """The tokens [T] of a row from place `start` on, the last of which is its `latest`."""
    prompt, emitted = row.sequence.prompt, row.sequence.emitted
    tokens = prompt[start:] + emitted if start < len(prompt) else emitted[start - len(prompt) :]
    return [*tokens[: row.length - start], latest]
