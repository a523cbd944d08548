"""A draft head's side of a batch, and what all batches of an engine share of it."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Self

import mlx.core as mx

from mlx_server.workers.engine.decode.decode_batch import Row
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.propose.draft_head import DraftHead, Reading
from mlx_server.workers.engine.propose.drafter import CATCHES_UP, Drafter, Hidden, unread_of
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
    """The rows of one batch that a draft head has begun to read, each by itself. Engine thread only."""

    def __init__(self, drafter: HeadDrafter) -> None:
        self._drafter = drafter
        self._readings: dict[Key, Reading] = {}
        self._samplers = RowSamplers()
        self.ready: Collection[Key] = ()
        """As `Source.ready`."""

    def absorb(self, other: HeadRows) -> None:
        """As `Source.absorb`."""
        self._readings |= other._readings
        self._samplers.absorb(other._samplers)

    def part(self, keys: Collection[Key]) -> Self:
        """As `Source.part`."""
        other, own = type(self)(self._drafter), [key for key in keys if key in self._readings]
        other._readings, other._samplers = {key: self._readings.pop(key) for key in own}, self._samplers.part(own)
        for key in own:
            self._samplers.remove(key)
        return other

    def ended(self, sequence: Sequence) -> None:
        """As `Source.ended`."""
        self._readings.pop(sequence.key, None)
        self._samplers.remove(sequence.key)

    def catch_up(self, wanted: list[Row], hidden: Hidden) -> None:
        """As `Source.catch_up`, with rows [B]."""
        pace, ready = self._drafter.pace, []
        left = pace.tokens
        for row in wanted:
            reading = self._reading(row.sequence)
            behind = row.length - 1 - reading.length
            if behind > CATCHES_UP and left > 0:
                began, most = time.monotonic(), behind if pace.is_short(behind) else min(left, behind)
                self._read(row, reading, reading.length + most, hidden)
                mx.eval([layer.state for layer in reading.cache])
                pace.read(most, time.monotonic() - began, beside=True)
                behind, left = behind - most, left - most
            if behind <= CATCHES_UP:
                ready.append(row.sequence.key)
        self.ready = ready

    def propose(self, rows: list[Row], known: list[int], count: int, hidden: Hidden) -> dict[Key, list[int]]:
        """As `Source.propose`, to the rows [B] of a batch."""
        found = {}
        for row, latest in zip(rows, known, strict=True):
            if (key := row.sequence.key) in self.ready:
                draw, reading = self._draw(row), self._readings[key]
                self._read(row, reading, row.length, hidden, latest, draw)
                found[key] = reading.propose(latest, count, draw)
        tokens: list[list[int]] = mx.concatenate(list(found.values())).tolist()  # type: ignore[assignment]
        return dict(zip(found, tokens, strict=True))

    def _reading(self, sequence: Sequence) -> Reading:
        if sequence.key not in self._readings:
            self._readings[sequence.key] = self._drafter.head.begin()
            self._samplers.add(sequence)
        return self._readings[sequence.key]

    def _draw(self, row: Row) -> Draw | None:
        """What draws the tokens after a row's latest as the model will."""
        key = row.sequence.key
        if row.sequence.sampling.temperature == 0:
            return None
        self._samplers.go_to(key, row.length + 1 - len(row.sequence.prompt))
        return self._samplers.drawing([key])

    def _read(
        self, row: Row, reading: Reading, stop: int, hidden: Hidden, latest: int = 0, draw: Draw | None = None
    ) -> None:
        """Read up to place `stop` of a row; if that is its end, the token at which is its `latest`."""
        start = reading.length
        tokens = unread_of(row, latest, start + 1)[: stop - start]
        reading.read(tokens, hidden(row.sequence.key, start, stop), draw)
