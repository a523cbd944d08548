"""Proposals to the rows of one batch: which of them are worth their time.

Nothing is read while they are not, and what proposes catches up, chunk by chunk beside the rows' own steps, once they
may be.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable
from typing import Self

import msgspec

from mlx_server.workers.engine.decode.decode_batch import Drawn, Row
from mlx_server.workers.engine.propose.drafter import FIRST_ODDS, Drafter, Hidden, Source
from mlx_server.workers.engine.propose.lookup import LEARNS
from mlx_server.workers.engine.propose.worth import SUREST, Guess, Plan, Worth
from mlx_server.workers.engine.sequence import Key, Sequence

PAUSE = 16
"""Steps for which nothing is proposed where it does not pay."""

RECOVERS = 1 / 1024
"""How far odds go back to FIRST_ODDS with each pause: another passage may be easier."""


class Offers:
    """A drafter's side of one batch. Engine thread only."""

    def __init__(self, drafter: Drafter, worth: Worth, source: Source | None = None) -> None:
        self._drafter = drafter
        self._worth = worth
        self._source = drafter.rows() if source is None else source
        self._pause = 0
        """Steps until it is asked again whether proposals are worth their time."""
        self._odds: dict[Key, float] = {}
        """How often a proposal was right of late, from 0 to 1, of all rows of the batch that guess."""
        self._proposed: dict[Key, list[int]] = {}

    def absorb(self, other: Offers) -> None:
        """Take over all rows of another batch's, which must not be used any more."""
        self._odds |= other._odds
        self._source.absorb(other._source)

    def part(self, keys: Collection[Key]) -> Self:
        """Move the rows with these keys, as far as they guess, into a new one."""
        other = type(self)(self._drafter, self._worth, self._source.part(keys))
        other._odds = {key: self._odds.pop(key) for key in keys if key in self._odds}
        return other

    def expect(self, sequences: Iterable[Sequence]) -> None:
        """Take in rows that join the batch. Those without a seed get one, so that both models draw alike."""
        for sequence in sequences:
            self._odds[sequence.key] = self._drafter.odds
            if sequence.sampling.seed is None:
                sequence.sampling = msgspec.structs.replace(sequence.sampling, seed=secrets.randbits(63))

    def ended(self, sequence: Sequence) -> None:
        """Part with a row that leaves the batch."""
        del self._odds[sequence.key]
        self._source.ended(sequence)

    def may_propose(self, rows: list[Row], hidden: Hidden) -> bool:
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
        self._source.catch_up(wanted, hidden)
        return bool(self._source.ready)

    def improve(
        self, rows: list[Row], known: list[int], found: list[Guess], plan: Plan, hidden: Hidden
    ) -> tuple[list[Guess], Plan]:
        """What may follow the rows' latest tokens `known` [B], and the plan of the step: with proposals instead
        of what was `found` where these are likelier, or asked for, and worth their time."""
        counts = [self._count(row, guess) for row, guess in zip(rows, found, strict=True)]
        odds = [self._odds[row.sequence.key] if count else 0.0 for row, count in zip(rows, counts, strict=True)]
        asked = [(row.sequence.draft_tokens or 0) if count else 0 for row, count in zip(rows, counts, strict=True)]
        mixed = [
            (count, chance) if count else (len(guess.tokens), guess.odds)
            for guess, count, chance in zip(found, counts, odds, strict=True)
        ]
        drafted = self._worth.best(len(rows), [one for one in mixed if one[0]], len(self._source.ready))
        better = drafted.rate > plan.rate
        room = min(self._drafter.room(row) for row in rows if row.sequence.key in self._source.ready)
        count = min(room, max(counts), max(*asked, drafted.width - 1 if better else 0))
        if not count:
            return found, plan
        began, drafting = time.monotonic(), len(self._source.ready)
        self._proposed = proposed = self._source.propose(rows, known, count, hidden)
        self._worth.drafted(drafting, count, time.monotonic() - began)
        guesses = [
            Guess(proposed[row.sequence.key][:most], chance, always) if most else guess
            for row, guess, most, chance, always in zip(rows, found, counts, odds, asked, strict=True)
        ]
        return guesses, drafted if better else plan

    def follow(self, drawn: list[Drawn]) -> None:
        """Compare what was proposed with the tokens that came instead."""
        for one in drawn:
            if proposed := self._proposed.get(one.key):
                right = proposed.pop(0) == one.token
                self._drafter.learn(right=right)
                self._odds[one.key] += LEARNS * (right - self._odds[one.key])
                if not right:
                    del self._proposed[one.key]

    def _count(self, row: Row, guess: Guess) -> int:
        """How many tokens it proposes to a row instead of a guess; 0 where the guess is better."""
        if row.sequence.key not in self._source.ready:
            return 0
        likelier = min(self._odds[row.sequence.key], SUREST) > guess.odds or not guess.tokens
        asked = bool(row.sequence.draft_tokens) and guess.odds < SUREST
        return self._drafter.count(row) if likelier or asked else 0

    def _are_worth_it(self, rows: list[Row], wanted: list[Row]) -> bool:
        """Whether proposals to the `wanted` rows seem worth their time; if not, there are none for a while."""
        if self._pause:
            self._pause -= 1
            return False
        keys = [row.sequence.key for row in wanted]
        offers = [(self._drafter.count(row), self._odds[key]) for row, key in zip(wanted, keys, strict=True)]
        if self._worth.best(len(rows), offers, len(offers)).width > 1:
            return True
        self._pause = PAUSE
        for key in keys:
            self._odds[key] = recovered(self._odds[key])
        self._drafter.odds = recovered(self._drafter.odds)
        return False


def recovered(odds: float) -> float:
    """Odds after a pause."""
    return odds + RECOVERS * (FIRST_ODDS - odds)
