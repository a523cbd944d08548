"""What a draft head has read of rows, and what it proposes from there: one row by itself, or several together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from mlx_server.workers.engine.kvcache.holes import closed
from mlx_server.workers.engine.kvcache.layers import extracted, merged
from mlx_server.workers.engine.propose.forgetting import shortened
from mlx_server.workers.engine.sampling.batch_sampler import Draw

Own = Callable[[], tuple[Any, list[Any]]]
"""Makes a drafter of mlx-vlm's that has read nothing, and the list of its KV states, which it goes on using."""


class Reading(Protocol):
    """What a head knows of rows. Engine thread only."""

    lengths: list[int]
    """Places of each row [B] whose hidden states it has read."""

    cache: list[Any]
    """Its own KV states."""

    def read(self, tokens: list[list[int]], hidden: mx.array, draw: Draw | None) -> None:
        """Take in the hidden states [B, T, D] of each row's next places, and the token after each of them: what follows
        a shorter row's in `hidden` means nothing. `draw` draws the first proposals from logits [B, V]; None for the
        likeliest tokens."""

    def propose(self, latest: list[int], count: int, draw: Draw | None) -> mx.array:
        """`count` tokens int32 [B, count] that may follow the token after the last place that was read of each row."""


class StepReading:
    """That of a head which proposes token by token."""

    def __init__(self, own: Own, rows: list[tuple[int, list[Any]]] | None = None) -> None:
        """`rows`: of each row [B] how many places were read, and the KV states; by default one row without any."""
        self._own = own
        self._drafter, self.cache = own()
        single = [(0, [KVCache() for _ in self.cache])]
        self.lengths = [length for length, _ in rows or single]
        caches = [cache for _, cache in rows or single]
        self.cache[:] = merged(caches) if len(caches) > 1 else caches[0]
        self._drafter._next_position += self._of_rows(self.lengths)
        self._greedy_only = getattr(self._drafter, "d2t", None) is not None
        """Its logits are of a smaller vocabulary, which the model's draws don't fit."""

    def together(self, others: list[StepReading]) -> StepReading:
        """One of all the rows of this one and of `others`, none of which must be used any more."""
        return StepReading(self._own, [row for one in (self, *others) for row in one._rows()])

    def apart(self) -> list[StepReading]:
        """One for each row. This one must not be used any more."""
        return [StepReading(self._own, [row]) for row in self._rows()]

    def read(self, tokens: list[list[int]], hidden: mx.array, draw: Draw | None) -> None:
        """As `Reading.read`, of hidden states [B, T, D]."""
        self._forget()
        counts = [len(row) for row in tokens]
        longest = max(counts)
        if longest > 1:
            ids = [[*row[:-1], *[0] * (longest - len(row))] for row in tokens]
            self._take(hidden[:, :-1], mx.array(ids, mx.int32), None)
            self._cut([longest - count for count in counts])
        ends = mx.array([count - 1 for count in counts])[:, None, None]
        self._hidden = mx.take_along_axis(hidden, ends, axis=1)
        self._take(self._hidden, mx.array([row[-1:] for row in tokens], mx.int32), draw)
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def propose(self, latest: list[int], count: int, draw: Draw | None) -> mx.array:
        """As `Reading.propose`: tokens int32 [B, count]."""
        last, sampling = mx.array(latest, mx.int32), self._sampling(draw)
        found: mx.array = self._drafter.draft_block(last, self._hidden, None, count + 1, *sampling)
        return found

    def _take(self, hidden: mx.array, ids: mx.array, draw: Draw | None) -> None:
        """Read hidden states [B, T, D] and the token ids [B, T] after their places."""
        self._drafter.accept_verified_tokens(hidden, ids, ids.shape[1], [], *self._sampling(draw))

    def _forget(self) -> None:
        """Forget its own latest proposals."""
        nothing = mx.zeros((len(self.lengths), 0), mx.int32)
        self._take(nothing[..., None], nothing, None)

    def _cut(self, surplus: list[int]) -> None:
        """Forget the last so many places of each row."""
        if any(surplus):
            self.cache[:] = shortened(self.cache, surplus)
            self._drafter._next_position -= self._of_rows(surplus)

    def _rows(self) -> list[tuple[int, list[Any]]]:
        """Each row by itself: how many places were read, and the KV states."""
        self._forget()
        if len(self.lengths) == 1:
            return [(self.lengths[0], self.cache)]
        cache = closed(self.cache)
        return [(length, extracted(cache, row)) for row, length in enumerate(self.lengths)]

    def _of_rows(self, numbers: list[int]) -> int | mx.array:
        """Numbers of rows, as the drafter counts places: an array if there are several."""
        return numbers[0] if len(numbers) == 1 else mx.array(numbers, mx.int32)

    def _sampling(self, draw: Draw | None) -> tuple[Draw, mx.Dtype, bool]:
        return (best, mx.int32, True) if draw is None or self._greedy_only else (sampler(draw), mx.int32, False)


class BlockReading:
    """That of a head which proposes all tokens at once, to one row."""

    def __init__(self, own: tuple[Any, list[Any]]) -> None:
        self._drafter, self.cache = own
        self.lengths = [0]
        self._unread: list[mx.array] = []

    def read(self, tokens: list[list[int]], hidden: mx.array, draw: Draw | None) -> None:
        """As `Reading.read`, of hidden states [1, T, D]."""
        self._unread.append(hidden)
        self.lengths = [self.lengths[0] + len(tokens[0])]

    def propose(self, latest: list[int], count: int, draw: Draw | None) -> mx.array:
        """As `Reading.propose`: tokens int32 [1, count]."""
        hidden, self._unread = mx.concatenate(self._unread, axis=1), []
        chosen = best if draw is None else sampler(draw)
        found: mx.array = self._drafter.draft_block(latest[0], hidden, self.cache, count + 1, chosen)
        return found


def best(logits: mx.array) -> mx.array:
    """The likeliest tokens [..., T] by logits [..., T, V]."""
    return mx.argmax(logits, axis=-1)


def sampler(draw: Draw) -> Draw:
    """What draws one place after the other: logits [B, T, V] to token ids [B, T]."""
    return lambda logits: mx.stack([draw(logits[:, place]) for place in range(logits.shape[1])], axis=1)
