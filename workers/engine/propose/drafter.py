"""A draft model, and what it has read of rows that it is behind with."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.generation import NO_LIMIT
from mlx_server.workers.engine.decode.decode_batch import Row
from mlx_server.workers.engine.decode.prefill import WORTH_KEEPING, for_its_states, forked
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.propose.draft_model import DraftModel
from mlx_server.workers.engine.propose.lookup import FIRST_ODDS, LEARNS
from mlx_server.workers.engine.sequence import Key, Sequence

CATCHES_UP = 32
"""Tokens of a row that it reads together with its proposal, at most; more are read before."""

LEARNS_OF_ALL = LEARNS / 2
"""How much one row's latest proposal counts in what is expected of the next rows."""

RECOVERS = 1 / 256
"""How far odds go back to FIRST_ODDS with each pause: another passage may be easier."""


class Drafter:
    """A draft model, what it has read of rows that it is behind with, and how often it was right. The same for all
    batches of an engine. Engine thread only."""

    def __init__(self, model: DraftModel, most: int, pace: PrefillBudget, prefixes: PrefixStore) -> None:
        """It proposes at most `most` tokens at a time where that is measured, reads prompts at its own `pace`, and
        keeps them in `prefixes`."""
        self.model = model
        self.pace = pace
        self.odds: dict[Key, float] = {}
        """How often a proposal for each row was right of late, from 0 to 1."""
        self._most = most
        self._prefixes = prefixes
        self._usual = FIRST_ODDS
        """What is expected of a new row."""
        self._behind: dict[Key, tuple[list[Any], int]] = {}
        """The caches of rows that it is reading, and their tokens."""

    def expect(self, sequences: Iterable[Sequence]) -> None:
        """Take in rows, of which nothing has been read yet. Those without a seed get one, so that both models draw
        alike."""
        for sequence in sequences:
            self._behind.pop(sequence.key, None)
            self.odds[sequence.key] = self._usual
            if sequence.sampling.seed is None:
                sequence.sampling = msgspec.structs.replace(sequence.sampling, seed=secrets.randbits(63))

    def ended(self, sequence: Sequence, state: tuple[list[Any], int] | None) -> None:
        """Keep what was read of a row: the `state` that it had in its batch, or what has been read before."""
        del self.odds[sequence.key]
        state = state or self._behind.pop(sequence.key, None)
        if state is not None:
            self._prefixes.keep(sequence, *state)

    def count(self, row: Row) -> int:
        """How many tokens it may propose after a row's tokens [T]."""
        if row.sequence.speculate != "auto":
            return 0
        asked = self._most if row.sequence.draft_tokens is None else row.sequence.draft_tokens
        return max(0, min(asked, row.left - 1, self.room(row)))

    def room(self, row: Row) -> int:
        """How many tokens more than a row's [T] its context takes."""
        longest = self.model.context_length
        return NO_LIMIT if longest is None else longest - row.length - CATCHES_UP

    def learn(self, key: Key, *, right: bool) -> None:
        """Take in whether a row's proposal was right."""
        self.odds[key] += LEARNS * (right - self.odds[key])
        self._usual += LEARNS_OF_ALL * (right - self._usual)

    def pause(self, keys: Iterable[Key]) -> None:
        """Take in that nothing will be proposed to these rows for a while."""
        for key in keys:
            self.odds[key] += RECOVERS * (FIRST_ODDS - self.odds[key])
        self._usual += RECOVERS * (FIRST_ODDS - self._usual)

    def put_off(self, key: Key, state: tuple[list[Any], int]) -> None:
        """Take a row back whose batch has gone on without its proposals."""
        self._behind[key] = state

    def read(self, row: Row, most: int) -> int:
        """Read `most` of the tokens [T] of a row that it is behind with, or a short rest of them all; how many it has
        read."""
        sequence = row.sequence
        found = self._behind.get(sequence.key)
        cache, length = self._begin(sequence) if found is None else found
        most = max(most, row.length - length) if self.pace.is_short(row.length - length) else most
        chunk = sequence.context[length : min(length + most, row.length)]
        if chunk:
            began = time.monotonic()
            with for_its_states(cache):
                self.model(mx.array([chunk]), cache)
            mx.eval([layer.state for layer in cache])
            self.pace.read(len(chunk), time.monotonic() - began, beside=True)
            before, length = length, length + len(chunk)
            if before < len(sequence.prompt) <= length and len(sequence.prompt) >= WORTH_KEEPING:
                self._prefixes.keep(sequence, forked(cache), length)
        self._behind[sequence.key] = cache, length
        return len(chunk)

    def caught_up(self, row: Row) -> tuple[list[Any], int] | None:
        """The cache of a row, and how many of its tokens [T] are in it, once they are all but the latest; it is not
        kept here any more."""
        state = self._behind.get(row.sequence.key)
        return self._behind.pop(row.sequence.key) if state is not None and state[1] == row.length else None

    def _begin(self, sequence: Sequence) -> tuple[list[Any], int]:
        length, cache = self._prefixes.find(sequence) or (0, make_prompt_cache(self.model.model))
        return cache, length
