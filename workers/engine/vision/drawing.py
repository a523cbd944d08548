"""Rows of one batch that each have a way of their own to draw the next token."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from mlx_server.workers.engine.sampling import Sampler, make_sampler
from mlx_server.workers.sequence import Key, Sequence


@dataclass(slots=True)
class _Row:
    sampler: Sampler | None
    reported: bool
    drawn: mx.array | None = None
    """The log-probabilities [1, V] that its latest token was drawn from, if they are wanted."""


class RowSamplers:
    """The samplers of the rows of a batch. Engine thread only."""

    def __init__(self) -> None:
        self._rows: dict[Key, _Row] = {}

    def add(self, sequence: Sequence) -> None:
        """A row that draws as its sequence asks for."""
        self._rows[sequence.key] = _Row(make_sampler(sequence), sequence.logprobs is not None)

    def remove(self, key: Key) -> None:
        """A row that has left; unknown keys are ignored."""
        self._rows.pop(key, None)

    def clear(self) -> None:
        """All rows have left."""
        self._rows.clear()

    def drawn(self) -> dict[Key, mx.array]:
        """What the latest tokens were drawn from, of the rows that report it."""
        return {key: row.drawn for key, row in self._rows.items() if row.drawn is not None}

    def draw(self, keys: list[Key], logprobs: mx.array) -> mx.array:
        """The next tokens [B] of the rows, from their log-probabilities [B, V]; one call for all that draw alike."""
        rows = [self._rows[key] for key in keys]
        for i, row in enumerate(rows):
            if row.reported:
                row.drawn = logprobs[i : i + 1]
        first = rows[0].sampler
        if all(row.sampler is first for row in rows):
            return sample(first, logprobs)
        return mx.concatenate([sample(row.sampler, logprobs[i : i + 1]) for i, row in enumerate(rows)])


def sample(sampler: Sampler | None, logprobs: mx.array) -> mx.array:
    """Tokens [B] of rows that share a sampler; None is greedy."""
    return mx.argmax(logprobs, axis=-1) if sampler is None else sampler(logprobs)
