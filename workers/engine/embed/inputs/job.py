"""Work that writes no text: inputs that a model computes something of, each on its own, in any order."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlx_server.schemas.internal.generation import Media
from mlx_server.schemas.internal.messages import Result
from mlx_server.workers.engine.sequence import Key, Sequence

Row = npt.NDArray[np.float32]
"""What a model computed of one input: a vector [D], or a single logit [1]."""

Rows = npt.NDArray[np.float32]
"""One row for each input of a batch, [B, D]."""


@dataclass(slots=True)
class Recognised:
    """How many of an input's pictures the model had looked at before; written when the input is computed."""

    pictures: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One input as the model gets it. `types` tell the two texts of a pair apart, for models that learned that.

    `prepared` is what a model that sees made of the pictures, which count among its tokens; `tenant` is whose they are.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...] | None = None
    media: tuple[Media, ...] = ()
    prepared: Any = None
    tenant: str = ""
    recognised: Recognised = field(default_factory=Recognised, compare=False)


def distinct(items: Several[Item]) -> tuple[list[Item], list[int]]:
    """Each text once, and for each of the given ones its number among them."""
    numbers: dict[Item, int] = {}
    places = [numbers.setdefault(item, len(numbers)) for item in items]
    return list(numbers), places


class Outcome(Protocol):
    """What is told to the client, once the model has computed an input."""

    def results(self, number: int, row: Row) -> list[Result]:
        """What is certain once the row float32 [D] of this input is there. Each input's comes once."""


@dataclass(eq=False, slots=True)
class EmbeddingJob(Sequence):
    """All inputs of one request. `todo` are the numbers of those that are not computed yet, longest first."""

    items: list[Item] = field(default_factory=list)
    outcome: Outcome = field(kw_only=True)
    todo: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.todo = sorted(range(len(self.items)), key=lambda number: -len(self.items[number].ids))

    def took(self, numbers: Several[int]) -> None:
        """These are computed: what was made of their pictures goes."""
        done = set(numbers)
        self.todo = [number for number in self.todo if number not in done]
        for number in numbers:
            if self.items[number].prepared is not None:
                self.items[number] = replace(self.items[number], prepared=None)

    @property
    def prompt_tokens(self) -> int:
        """What is computed, special tokens included."""
        return sum(len(item.ids) for item in self.items)

    def media_counts(self) -> tuple[int, int]:
        """How many pictures were looked at, and how many were known, once all inputs are computed."""
        known = sum(item.recognised.pictures for item in self.items)
        return sum(len(item.media) for item in self.items) - known, known


def computation(ticket: int, items: Several[Item], outcome: Outcome) -> EmbeddingJob:
    """A request's work, all of it one sequence: it needs one place, however many inputs it has."""
    key: Key = (ticket, 0)
    return EmbeddingJob(key, [], 0, items=list(items), outcome=outcome)
