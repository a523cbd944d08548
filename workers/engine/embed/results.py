"""What clients are told of what was computed: vectors, scores, or how alike two texts' vectors are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from mlx_server.schemas.internal.messages import Result, Score, Vector
from mlx_server.workers.engine.embed.inputs.job import Row
from mlx_server.workers.engine.embed.score_activations import Activation


class Vectors:
    """Each input's vector; with `dimensions` only its beginning, which is brought to length 1 again."""

    def __init__(self, ticket: int, dimensions: int | None = None) -> None:
        self._ticket = ticket
        self._dimensions = dimensions

    def results(self, number: int, row: Row) -> list[Result]:
        """The input's vector, from its row float32 [D]."""
        if self._dimensions is not None and self._dimensions < len(row):
            row = unit(row[: self._dimensions])
        return [Vector(self._ticket, number, row.astype("<f4").tobytes())]


class Relevance:
    """The score of each pair, from a classifier's single logit.

    `numbers` are those of the pairs' inputs: pairs that are the same have the same input.
    """

    def __init__(self, ticket: int, numbers: Iterable[int], activation: Activation) -> None:
        self._ticket = ticket
        self._activation = activation
        self._pairs_of: dict[int, list[int]] = defaultdict(list)
        for pair, number in enumerate(numbers):
            self._pairs_of[number].append(pair)

    def results(self, number: int, row: Row) -> list[Result]:
        """The scores of the pairs with this input, from its row float32 [1], a logit."""
        score = self._activation(row[0])
        return [Score(self._ticket, pair, score) for pair in self._pairs_of[number]]


class Similarities:
    """The cosine of each pair of texts; a text may be in many pairs and is computed once."""

    def __init__(self, ticket: int, pairs: Iterable[tuple[int, int]]) -> None:
        self._ticket = ticket
        self._pairs_of: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for index, (one, other) in enumerate(pairs):
            for number in {one, other}:
                self._pairs_of[number].append((index, one, other))
        self._rows: dict[int, Row] = {}

    def results(self, number: int, row: Row) -> list[Result]:
        """The scores of this text's pairs whose other text is there already; its row is its vector, float32 [D]."""
        self._rows[number] = unit(row)
        pairs = [(index, self._rows.get(one), self._rows.get(other)) for index, one, other in self._pairs_of[number]]
        return [Score(self._ticket, i, cosine(one, other)) for i, one, other in pairs if one is not None is not other]


def cosine(one: Row, other: Row) -> float:
    """The cosine, from -1 to 1, of two vectors float32 [D] of length 1, whose product rounding may put a little above
    1."""
    return float(np.clip(one @ other, -1, 1))


def unit(row: Row) -> Row:
    """A vector float32 [D] scaled to length 1; a zero vector stays zero."""
    return row / max(float(np.linalg.norm(row)), 1e-12)
