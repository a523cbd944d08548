"""Draws the next tokens of a batch's rows, each with its own parameters, in at most three calls."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from itertools import chain

import mlx.core as mx

from mlx_server.workers.engine.sampling.logprobs import log_softmax
from mlx_server.workers.engine.sampling.sampling import (
    Choice,
    choice_of,
    counter_key,
    draw_freely,
    filtered,
    keep_top_p,
    noise,
)
from mlx_server.workers.engine.sequence import Key, Sequence

Draw = Callable[[mx.array], mx.array]
"""Logits [B, V] to token ids uint32 [B]."""

best: Draw = partial(mx.argmax, axis=-1)
"""Greedy decoding: the ids of the largest logits."""


@dataclass(slots=True)
class _Row:
    choice: Choice | None
    seed: int | None
    position: int

    def key(self) -> int:
        """The key of the next draw; each call advances the position."""
        assert self.seed is not None
        self.position += 1
        return counter_key(self.seed, self.position - 1)


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of the batch, by number, that draw in one call."""

    numbers: list[int]
    draw: Draw


class RowSamplers:
    """The samplers of the rows of a batch. Engine thread only."""

    def __init__(self) -> None:
        self._rows: dict[Key, _Row] = {}
        self._keys: list[Key] = []
        self._draw: Draw = best

    def add(self, sequence: Sequence) -> None:
        """Add a row that draws as its sequence asks for."""
        sampling = sequence.sampling
        self._rows[sequence.key] = _Row(choice_of(sampling), sampling.seed, len(sequence.emitted))
        self._keys = []

    def remove(self, key: Key) -> None:
        """Remove a row; unknown keys are ignored."""
        self._rows.pop(key, None)
        self._keys = []

    def clear(self) -> None:
        """Remove all rows."""
        self._rows.clear()
        self._keys = []

    def places(self, keys: list[Key]) -> list[int]:
        """The place in its answer of each row's next draw."""
        return [self._rows[key].position for key in keys]

    def go_to(self, key: Key, place: int) -> None:
        """Have a row's next draw be that of another place."""
        self._rows[key].position = place

    def absorb(self, other: RowSamplers) -> None:
        """Add the rows of another batch."""
        self._rows |= other._rows
        self._keys = []

    def part(self, keys: Collection[Key]) -> RowSamplers:
        """The samplers of some rows, which stay here too until they are removed."""
        other = RowSamplers()
        other._rows = {key: self._rows[key] for key in keys}
        return other

    def draw(self, keys: list[Key], logits: mx.array) -> mx.array:
        """The rows' next token ids uint32 [B], from their logits or log-probabilities [B, V], both in the order of
        `keys`."""
        if keys != self._keys:
            self._keys, self._draw = list(keys), self.drawing(keys)
        return self._draw(logits)

    def drawing(self, keys: list[Key]) -> Draw:
        """What draws for rows in the order of `keys`, until a row changes."""
        groups = grouped([self._rows[key] for key in keys])
        if len(groups) == 1:
            return groups[0].draw
        order = list(chain.from_iterable(group.numbers for group in groups))
        back = mx.array([order.index(number) for number in range(len(order))])

        def draw(logits: mx.array) -> mx.array:
            return mx.concatenate([group.draw(logits[mx.array(group.numbers)]) for group in groups])[back]

        return draw


def grouped(rows: list[_Row]) -> list[_Group]:
    """The rows in groups that draw together: greedy ones, those without seeds, and those with seeds."""
    kinds: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        kind = "greedy" if row.choice is None else "free" if row.seed is None else "seeded"
        kinds.setdefault(kind, []).append(number)
    return [_Group(numbers, draw_of(kind, [rows[number] for number in numbers])) for kind, numbers in kinds.items()]


def draw_of(kind: str, rows: list[_Row]) -> Draw:
    """The function that draws for rows of one kind: logits or log-probabilities [B, V] to token ids uint32 [B]."""
    if kind == "greedy":
        return best
    choices = [row.choice for row in rows if row.choice is not None]
    weights = weights_of(choices)
    if kind == "seeded":
        return lambda logits: best(weights(logits) + noise([row.key() for row in rows], logits.shape[-1]))
    if all(choice == choices[0] for choice in choices) and choices[0].top_p >= 1:
        # Neither rank nor distance to the best needs a sum over the vocabulary.
        return lambda logits: draw_freely(choices[0], logits)
    return lambda logits: mx.random.categorical(weights(logits))


def weights_of(choices: list[Choice]) -> Draw:
    """A function from logits [B, V] to the log-weights float32 [B, V] that rows with these choices are drawn by:
    filtered log-probabilities over temperature.

    Each row gets what `filtered` gives it alone, to the bit.
    """
    if all(choice == choices[0] for choice in choices):
        choice = choices[0]
        return lambda logits: filtered(log_softmax(logits), *choice[1:]) * (1 / choice.temperature)
    column = len(choices), 1
    scale = mx.array([1 / choice.temperature for choice in choices]).reshape(column)
    # Sums of rounded probabilities may exceed 1 a little, and never 2.
    top_p = mx.array([choice.top_p if 0 < choice.top_p < 1 else 2.0 for choice in choices]).reshape(column)
    min_p = mx.array([choice.min_p for choice in choices]).reshape(column)
    top_k = [choice.top_k for choice in choices]

    def weights(logits: mx.array) -> mx.array:
        logprobs = log_softmax(logits)
        if any(0 < choice.top_p < 1 for choice in choices):
            logprobs = keep_top_p(logprobs, top_p)
        if any(choice.min_p > 0 for choice in choices):
            floor = mx.max(logprobs, axis=-1, keepdims=True) + mx.log(min_p)
            logprobs = mx.where(logprobs < floor, -mx.inf, logprobs)
        return keep_top_k(logprobs, top_k) * scale

    return weights


def keep_top_k(logprobs: mx.array, top_k: list[int]) -> mx.array:
    """Log-probabilities [B, V] with all but each row's `top_k` most probable tokens (and ties with the last) at -inf,
    same dtype; 0 keeps all."""
    width = logprobs.shape[-1]
    most = max((k for k in top_k if k < width), default=0)
    if most <= 0:
        return logprobs
    leading = mx.sort(-mx.partition(-logprobs, kth=most - 1, axis=-1)[:, :most], axis=-1)
    place = mx.array([most - k if 0 < k < width else 0 for k in top_k])[:, None]
    limited = mx.array([0 < k < width for k in top_k])[:, None]
    floor = mx.where(limited, mx.take_along_axis(leading, place, axis=-1), -mx.inf)
    return mx.where(logprobs < floor, -mx.inf, logprobs)
