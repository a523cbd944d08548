"""A draft model's side of a batch, and what all batches of an engine share of it.

It draws with the keys that the model draws with, which makes its proposals likelier to be right.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Self

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.schemas.internal.generation import NO_LIMIT
from mlx_server.workers.engine.decode.decode_batch import DecodeBatch, Row
from mlx_server.workers.engine.decode.prefill import WORTH_KEEPING, forked
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.passes.prompts import for_its_states
from mlx_server.workers.engine.propose.draft_model import DraftModel
from mlx_server.workers.engine.propose.drafter import CATCHES_UP, Drafter, Hidden, unread_of
from mlx_server.workers.engine.propose.forgetting import shortened
from mlx_server.workers.engine.propose.ragged import RaggedBatch
from mlx_server.workers.engine.sequence import Key, Sequence

State = tuple[list[Any], int]
"""A row's own cache, and how many tokens are in it."""


class ModelDrafter(Drafter):
    """Has a draft model propose, and reads prompts for it. Engine thread only."""

    def __init__(self, model: DraftModel, most: int, pace: PrefillBudget, prefixes: PrefixStore) -> None:
        """`most` and `pace` as for any drafter; what it has read is kept in `prefixes`."""
        super().__init__(most, pace)
        self.model = model
        self._prefixes = prefixes

    def rows(self) -> DraftRows:
        """As `Drafter.rows`."""
        return DraftRows(self)

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


class DraftRows(RaggedBatch):
    """The rows of one batch that a draft model has nearly caught up with. Engine thread only."""

    def __init__(self, drafter: ModelDrafter) -> None:
        super().__init__(drafter.model, set())
        self._drafter = drafter
        self._behind: dict[Key, State] = {}
        """What was read of rows that it is further behind with."""

    @property
    def ready(self) -> Collection[Key]:
        """As `Source.ready`."""
        return self._rows.keys()

    def absorb(self, other: DecodeBatch) -> None:
        """As `DecodeBatch.absorb`, if the other has any rows."""
        assert isinstance(other, DraftRows)
        self._behind |= other._behind
        if other.keys:
            super().absorb(other)

    def part(self, keys: Collection[Key]) -> Self:
        """As `DecodeBatch.part`, for those of the rows that it has."""
        own = [key for key in self.keys if key in keys]
        if 0 < len(own) < len(self.keys):
            other = super().part(own)
        else:
            other = self._empty()
            if own:
                super(DraftRows, other).absorb(self)
                self.leave(own)
        other._behind = {key: self._behind.pop(key) for key in keys if key in self._behind}
        return other

    def ended(self, sequence: Sequence) -> None:
        """Part with a row that leaves the batch, and keep what was read of it."""
        behind = self._behind.pop(sequence.key, None)
        if (state := self.state(sequence.key) or behind) is not None:
            self._drafter.keep(sequence, state)
        self.leave([sequence.key])

    def catch_up(self, wanted: list[Row], hidden: Hidden) -> None:
        """Part with rows that are not wanted any more, or have gone on without it for long; read a chunk of those that
        it is behind with, one after the other, of the `wanted` ones [B]."""
        lengths = {row.sequence.key: row.length for row in wanted}
        far = [key for key in self.keys if lengths.get(key, NO_LIMIT) - self._rows[key].length > CATCHES_UP]
        for key in far:
            if (state := self.state(key)) is not None:
                self._behind[key] = state
        self.leave(far)
        left = self._drafter.pace.tokens
        for row in [row for row in wanted if row.sequence.key not in self._rows]:
            behind = self._behind.pop(row.sequence.key, None)
            before = 0 if behind is None else behind[1]
            cache, length = self._drafter.read(row, behind, left)
            if length == row.length:
                self.join([row.sequence], cache, {})
                self._rows[row.sequence.key].length = length
            else:
                self._behind[row.sequence.key] = cache, length
            left -= length - before
            if left <= 0:
                return

    def propose(self, rows: list[Row], known: list[int], count: int, hidden: Hidden) -> dict[Key, list[int]]:
        """As `Source.propose`, to the rows [B] of a batch."""
        latest = {row.sequence.key: (row, token) for row, token in zip(rows, known, strict=True)}
        unread = [unread_of(*latest[key], self._rows[key].length) for key in self.keys]
        longest = max(map(len, unread))
        ids = mx.array([[*tokens, *[0] * (longest - len(tokens))] for tokens in unread], mx.uint32)
        logits = self._model(ids, self._cache)
        self._cache = shortened(self._cache, [longest - len(tokens) for tokens in unread])
        for key, tokens in zip(self.keys, unread, strict=True):
            own = self._rows[key]
            own.length += len(tokens)
            self._samplers.go_to(key, own.length - len(own.sequence.prompt))
        self._draw = self._draw or self._samplers.drawing(self.keys)
        ends = mx.array([len(tokens) - 1 for tokens in unread])
        proposed = [self._draw(logits[mx.arange(len(unread)), ends])]
        while len(proposed) < count:
            proposed.append(self._draw(self._model(proposed[-1][:, None], self._cache)[:, -1]))
        self._cache = shortened(self._cache, [count - 1] * len(unread))
        found: list[list[int]] = mx.stack(proposed, axis=1).tolist()  # type: ignore[assignment]
        return dict(zip(self.keys, found, strict=True))

    def _empty(self) -> Self:
        return type(self)(self._drafter)
