"""A draft model, as all batches of an engine use it."""

from __future__ import annotations

import time
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.generation import NO_LIMIT
from mlx_server.workers.engine.decode.decode_batch import Row
from mlx_server.workers.engine.decode.prefill import WORTH_KEEPING, for_its_states, forked
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.propose.draft_model import DraftModel
from mlx_server.workers.engine.propose.lookup import LEARNS
from mlx_server.workers.engine.sequence import Sequence

CATCHES_UP = 32
"""Tokens of a row that it reads together with its proposal, at most; more are read before."""

FIRST_ODDS = 0.9
"""Better than most draft models', so that each is tried in a batch of many rows, too."""

LEARNS_OF_ALL = LEARNS / 2
"""How much one row's latest proposal counts in what is expected of the next rows."""

State = tuple[list[Any], int]
"""A row's own cache, and how many tokens are in it."""


class Drafter:
    """Reads prompts for a draft model, and knows how often it is right. Engine thread only."""

    def __init__(self, model: DraftModel, most: int, pace: PrefillBudget, prefixes: PrefixStore) -> None:
        """It proposes at most `most` tokens at a time where that is measured, reads prompts at its own `pace`, and
        keeps them in `prefixes`."""
        self.model = model
        self.pace = pace
        self.odds = FIRST_ODDS
        """How often a proposal for a new row is right, from 0 to 1."""
        self._most = most
        self._prefixes = prefixes

    def learn(self, *, right: bool) -> None:
        """Take in whether a proposal was right."""
        self.odds += LEARNS_OF_ALL * (right - self.odds)

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

    def read(self, row: Row, state: State | None, most: int) -> State:
        """Read `most` more of a row's tokens [T], all but the latest, or a short rest of them all."""
        sequence = row.sequence
        cache, length = state or self._begin(sequence)
        most = max(most, row.length - length) if self.pace.is_short(row.length - length) else most
        chunk = sequence.context[length : min(length + most, row.length)]
        if not chunk:
            return cache, length
        began = time.monotonic()
        with for_its_states(cache):
            self.model(mx.array([chunk]), cache)
        mx.eval([layer.state for layer in cache])
        self.pace.read(len(chunk), time.monotonic() - began, beside=True)
        read, prompt = length + len(chunk), len(sequence.prompt)
        if length < prompt <= read and prompt >= WORTH_KEEPING:
            self._prefixes.keep(sequence, forked(cache), read)
        return cache, read

    def keep(self, sequence: Sequence, state: State) -> None:
        """Keep what was read of a sequence that has ended."""
        self._prefixes.keep(sequence, *state)

    def _begin(self, sequence: Sequence) -> State:
        length, cache = self._prefixes.find(sequence) or (0, make_prompt_cache(self.model.model))
        return cache, length
