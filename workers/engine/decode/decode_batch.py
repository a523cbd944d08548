"""The rows of one batch: one call of the model decodes a token for each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import mlx.core as mx
from mlx_lm.models.cache import TokenBuffer

from mlx_server.schemas.internal.messages import FinishReason
from mlx_server.workers.engine.kvcache.layers import extend, extracted, keep, merged
from mlx_server.workers.engine.runtime import platform
from mlx_server.workers.engine.sampling.batch_sampler import Draw, RowSamplers
from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sampling.sampling import Processors, end_tokens
from mlx_server.workers.engine.sequence import Key, Sequence

CLEAR_EVERY = 512
"""Steps after which unused memory goes back to the system; mlx-lm's own loop has MLX release it."""


@dataclass(eq=False, slots=True)
class Row:
    """A row's state: `length` is the number of tokens in its cache, `left` that of tokens still to be returned. `fresh`
    until the last token of its prompt has been read; `told` if its latest token has been returned already, as a first
    token is."""

    sequence: Sequence
    processors: Processors | None
    context: TokenBuffer | None
    ends: set[int]
    length: int
    left: int
    fresh: bool = True
    told: bool = False
    drawn: mx.array | None = None
    """The log-probabilities [1, V] in nats that its latest token was drawn from, if they are wanted."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row's new token, the last one with `finish`, and the log-probabilities [1, V] in nats that it was drawn from,
    if its sequence reports them."""

    key: Key
    token: int
    finish: FinishReason | None
    logprobs: mx.array | None


class DecodeBatch:
    """Decodes its rows together, one step ahead of the tokens that it returns, except for first tokens. Engine thread
    only.

    It stands in for mlx-lm's batch, which computes log-probabilities of the whole vocabulary for every row, samples row
    by row, and reads each prompt's last token by itself. A single row keeps a cache of its own, without a batch's masks
    and padding.
    """

    def __init__(self, model: Any, stop_tokens: set[int]) -> None:
        """`stop_tokens` end an answer."""
        self._stop_tokens = stop_tokens
        self.keys: list[Key] = []
        """The keys of the rows' sequences, in the order of rows."""
        self._model = model
        self._rows: dict[Key, Row] = {}
        self._cache: list[Any] = []
        self._single = True
        self._next: mx.array
        self._samplers = RowSamplers()
        self._draw: Draw | None = None
        """Draws for the rows as they are; None since they changed."""
        self._steps = 0

    def join(self, sequences: list[Sequence], cache: list[Any], processors: dict[Key, Processors]) -> None:
        """Add rows. `cache` holds all of their tokens but the last: a single row's own cache, or a batch's for
        several."""
        for sequence in sequences:
            key, context = sequence.key, sequence.context
            buffer = TokenBuffer(context[:-1]) if key in processors else None
            ends, length = end_tokens(sequence, self._stop_tokens), len(context) - 1
            self._rows[key] = Row(sequence, processors.get(key), buffer, ends, length, sequence.remaining)
            self._samplers.add(sequence)
        last = mx.array([sequence.context[-1] for sequence in sequences], mx.uint32)
        self._append([sequence.key for sequence in sequences], cache, last, single=len(sequences) == 1)

    def absorb(self, other: DecodeBatch) -> None:
        """Take over all rows of another batch of the same model, which must not be used any more."""
        self._rows |= other._rows
        self._samplers.absorb(other._samplers)
        self._append(other.keys, other._cache, other._next, single=other._single)

    def part(self, keys: Collection[Key]) -> Self:
        """Move the rows with these keys into a new batch."""
        other = self._empty()
        numbers = [number for number, key in enumerate(self.keys) if key in keys]
        other._rows = {key: self._rows[key] for key in keys}
        other._samplers = self._samplers.part(keys)
        caches = [extracted(self._cache, number) for number in numbers]
        single = len(caches) == 1
        cache = caches[0] if single else merged(caches)
        other._append([self.keys[n] for n in numbers], cache, self._next[mx.array(numbers)], single=single)
        self.leave(keys)
        return other

    @property
    def lengths(self) -> dict[Key, int]:
        """The number of tokens in each row's cache."""
        return {key: self._rows[key].length for key in self.keys}

    def step(self) -> list[Drawn]:
        """Decode one token for every row."""
        rows = [self._rows[key] for key in self.keys]
        before = self._next, [row.drawn for row in rows]
        if any(row.left > 1 or ((row.fresh or row.told) and row.left) for row in rows):
            self._feed(rows, self._next)
        drawn = self._tell(rows, *before) if any(not (row.fresh or row.told) for row in rows) else []
        for row in rows:
            row.told = False
        if any(row.fresh for row in rows):
            drawn += self._tell_first(rows)
        return drawn

    def leave(self, keys: Collection[Key]) -> None:
        """Remove rows; unknown keys are ignored."""
        staying = [number for number, key in enumerate(self.keys) if key not in keys]
        if len(staying) == len(self.keys):
            return
        for key in keys:
            self._rows.pop(key, None)
            self._samplers.remove(key)
        self.keys, self._draw = [self.keys[number] for number in staying], None
        if not staying:
            self._cache, self._single = [], True
            return
        self._next = self._next[mx.array(staying)]
        # Of a batch that has read nothing, no row can be extracted.
        if len(staying) == 1 and self._rows[self.keys[0]].length:
            self._cache, self._single = extracted(self._cache, staying[0]), True
            return
        keep(self._cache, staying)

    def state(self, key: Key) -> tuple[list[Any], int] | None:
        """The cache of a row that is about to leave, and the number of tokens in it; None for an unknown key, and for a
        row of which nothing has been read."""
        if key not in self._rows or not self._rows[key].length:
            return None
        number = self.keys.index(key)
        cache = self._cache if self._single else extracted(self._cache, number, own=True)
        return cache, self._rows[key].length

    def _empty(self) -> Self:
        """A batch like this one, without rows."""
        return type(self)(self._model, self._stop_tokens)

    def _tell(self, rows: list[Row], tokens: mx.array, reports: list[mx.array | None]) -> list[Drawn]:
        """The tokens [B] of the previous step, fetched while the next step is being computed."""
        known: list[int] = tokens.tolist()  # type: ignore[assignment]
        return [
            told(row, token, report)
            for row, token, report in zip(rows, known, reports, strict=True)
            if not (row.fresh or row.told)
        ]

    def _tell_first(self, rows: list[Row]) -> list[Drawn]:
        """The first tokens of rows that have just joined, fetched at once: a client waits for them."""
        known: list[int] = self._next.tolist()  # type: ignore[assignment]
        drawn = []
        for row, token in zip(rows, known, strict=True):
            if row.fresh:
                row.fresh, row.told = False, True
                drawn.append(told(row, token, row.drawn))
        return drawn

    def _append(self, keys: list[Key], cache: list[Any], last: mx.array, *, single: bool) -> None:
        if not self.keys:
            self._cache, self._next, self._single = cache, last, single
        else:
            self._cache = merged([self._cache]) if self._single else self._cache
            extend(self._cache, merged([cache]) if single else cache)
            self._next = mx.concatenate([self._next, last])
            self._single = False
        self.keys, self._draw = self.keys + keys, None

    def _feed(self, rows: list[Row], tokens: mx.array) -> None:
        """Start computing the tokens that follow `tokens` [B]."""
        logits = self._model(tokens[:, None], cache=self._cache)[:, -1, :]
        contexts: list[mx.array] = []
        if any(row.processors is not None for row in rows):
            logits = processed(rows, tokens, logits, contexts)
        self._draw = self._draw or self._samplers.drawing(self.keys)
        self._next = self._draw(logits)
        for number, row in enumerate(rows):
            row.length += 1
            if row.sequence.logprobs is not None:
                row.drawn = log_softmax(logits[number : number + 1])
        wanted = [row.drawn for row in rows if row.drawn is not None]
        mx.async_eval(self._next, wanted, contexts)
        self._count_step()

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps % CLEAR_EVERY == 0:
            platform.release()


def told(row: Row, token: int, logprobs: mx.array | None) -> Drawn:
    """A row's token as it is returned, which counts it. `logprobs` [1, V] are what it was drawn from, in nats."""
    row.left = 0 if token in row.ends else row.left - 1
    finish: FinishReason | None = "stop" if token in row.ends else None if row.left else "length"
    return Drawn(row.sequence.key, token, finish, logprobs)


def processed(rows: list[Row], tokens: mx.array, logits: mx.array, contexts: list[mx.array]) -> mx.array:
    """The logits [B, V] of rows, after the processors of those that have any; `tokens` [B] are the ids just read, and
    each such row's context [T] is added to `contexts`."""
    pieces, start = [], 0
    for number, row in enumerate(rows):
        if row.processors is None or row.context is None:
            continue
        context = row.context.update_and_fetch(tokens[number : number + 1])
        contexts.append(context)
        if start < number:
            pieces.append(logits[start:number])
        pieces.append(row.processors(context, logits[number : number + 1]))
        start = number + 1
    if start < len(rows):
        pieces.append(logits[start:])
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)
