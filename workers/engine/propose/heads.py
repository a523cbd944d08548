"""A draft head's side of a batch, and what all batches of an engine share of it."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Self

import mlx.core as mx

from mlx_server.workers.engine.decode.decode_batch import Row
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.propose.draft_head import DraftHead
from mlx_server.workers.engine.propose.drafter import CATCHES_UP, Drafter, Hidden, unread_of
from mlx_server.workers.engine.propose.readings import Reading, StepReading
from mlx_server.workers.engine.sampling.batch_sampler import Draw, RowSamplers
from mlx_server.workers.engine.sequence import Key, Sequence


class HeadDrafter(Drafter):
    """Has a draft head propose. Engine thread only."""

    def __init__(self, head: DraftHead, most: int, pace: PrefillBudget) -> None:
        """`most` and `pace` as for any drafter."""
        super().__init__(most, pace)
        self.head = head

    def rows(self) -> HeadRows:
        """As `Drafter.rows`."""
        return HeadRows(self)

    def room(self, row: Row) -> int:
        """As many after a row's tokens [T] as it was trained to propose."""
        return self.head.most


class HeadRows:
    """The rows of one batch that a draft head has begun to read. Engine thread only."""

    def __init__(self, drafter: HeadDrafter) -> None:
        self._drafter = drafter
        self._readings: dict[Key, Reading] = {}
        """Of rows by themselves."""
        self._keys: list[Key] = []
        self._together: StepReading | None = None
        """Of the rows with these keys."""
        self._samplers = RowSamplers()
        self.ready: Collection[Key] = ()
        """As `Source.ready`."""

    def absorb(self, other: HeadRows) -> None:
        """As `Source.absorb`."""
        other._part_all()
        self._readings |= other._readings
        self._samplers.absorb(other._samplers)

    def part(self, keys: Collection[Key]) -> Self:
        """As `Source.part`."""
        self._part_all()
        other, own = type(self)(self._drafter), [key for key in keys if key in self._readings]
        other._readings, other._samplers = {key: self._readings.pop(key) for key in own}, self._samplers.part(own)
        for key in own:
            self._samplers.remove(key)
        return other

    def ended(self, sequence: Sequence) -> None:
        """As `Source.ended`."""
        if sequence.key in self._keys:
            self._part_all()
        self._readings.pop(sequence.key, None)
        self._samplers.remove(sequence.key)

    def catch_up(self, wanted: list[Row], hidden: Hidden) -> None:
        """As `Source.catch_up`, with rows [B]."""
        pace, ready = self._drafter.pace, []
        left = pace.tokens
        for row in wanted:
            key, length = row.sequence.key, self._length(row.sequence)
            behind = row.length - 1 - length
            if behind > CATCHES_UP and left > 0:
                self._part_all()
                began, most = time.monotonic(), behind if pace.is_short(behind) else min(left, behind)
                reading, chunk = self._readings[key], unread_of(row, 0, length + 1)[:most]
                reading.read([chunk], hidden([(key, length, length + most)]), None)
                mx.eval([layer.state for layer in reading.cache])
                pace.read(most, time.monotonic() - began, beside=True)
                behind, left = behind - most, left - most
            if behind <= CATCHES_UP:
                ready.append(key)
        self.ready = ready

    def propose(self, rows: list[Row], known: list[int], count: int, hidden: Hidden) -> dict[Key, list[int]]:
        """As `Source.propose`, to the rows [B] of a batch."""
        ready = [pair for pair in zip(rows, known, strict=True) if pair[0].sequence.key in self.ready]
        together = self._drafter.head.takes_rows_together
        groups = [ready] if together else [[pair] for pair in ready]
        found = mx.concatenate([self._proposals(group, count, hidden) for group in groups])
        tokens: list[list[int]] = found.tolist()  # type: ignore[assignment]
        return {row.sequence.key: own for (row, _), own in zip(ready, tokens, strict=True)}

    def _proposals(self, group: list[tuple[Row, int]], count: int, hidden: Hidden) -> mx.array:
        """Tokens int32 [B, count] that may follow rows [B], each with its latest token."""
        rows = [row for row, _ in group]
        keys = [row.sequence.key for row in rows]
        reading, draw = self._reading(keys), self._draw(rows)
        read = reading.lengths
        unread = [unread_of(row, latest, start + 1) for (row, latest), start in zip(group, read, strict=True)]
        spans = [(key, start, row.length) for key, start, row in zip(keys, read, rows, strict=True)]
        reading.read(unread, hidden(spans), draw)
        return reading.propose([latest for _, latest in group], count, draw)

    def _length(self, sequence: Sequence) -> int:
        """How many places of a row were read, which begins to be if it is new."""
        if (key := sequence.key) in self._keys and self._together is not None:
            return self._together.lengths[self._keys.index(key)]
        if key not in self._readings:
            self._readings[key] = self._drafter.head.begin()
            self._samplers.add(sequence)
        return self._readings[key].lengths[0]

    def _reading(self, keys: list[Key]) -> Reading:
        """That of one row, or one of several together."""
        if self._together is not None and keys == self._keys:
            return self._together
        self._part_all()
        if len(keys) == 1:
            return self._readings[keys[0]]
        first, *others = [one for key in keys if isinstance(one := self._readings.pop(key), StepReading)]
        self._keys, self._together = keys, first.together(others)
        return self._together

    def _part_all(self) -> None:
        """Have each row by itself."""
        if self._together is not None:
            self._readings |= zip(self._keys, self._together.apart(), strict=True)
            self._keys, self._together = [], None

    def _draw(self, rows: list[Row]) -> Draw | None:
        """What draws the tokens after the latest of rows [B] as the model will; None if they are the likeliest."""
        if all(row.sequence.sampling.temperature == 0 for row in rows):
            return None
        for row in rows:
            self._samplers.go_to(row.sequence.key, row.length + 1 - len(row.sequence.prompt))
        return self._samplers.drawing([row.sequence.key for row in rows])
