"""What proposes tokens to the rows of an engine, as all of its batches use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Protocol, Self

import mlx.core as mx

from mlx_server.schemas.internal.generation import NO_LIMIT
from mlx_server.workers.engine.decode.decode_batch import Row
from mlx_server.workers.engine.decode.prefill_budget import PrefillBudget
from mlx_server.workers.engine.propose.lookup import LEARNS
from mlx_server.workers.engine.sequence import Key, Sequence

CATCHES_UP = 32
"""Tokens of a row that are read together with its proposal, at most; more are read before."""

FIRST_ODDS = 0.9
"""Better than most drafts', so that each is tried in a batch of many rows, too."""

LEARNS_OF_ALL = LEARNS / 2
"""How much one row's latest proposal counts in what is expected of the next rows."""

Span = tuple[Key, int, int]
"""Places of a row, from one up to another."""

Hidden = Callable[[Collection[Span]], mx.array]
"""The served model's hidden states [B, T, D] at spans of rows, where they are kept. Of shorter spans than the longest
some follow that mean nothing."""


class Source(Protocol):
    """Proposes tokens to the rows of one batch. Engine thread only."""

    @property
    def ready(self) -> Collection[Key]:
        """The rows that it has nearly caught up with."""

    def absorb(self, other: Any) -> None:
        """Take over all rows of another one, which must not be used any more."""

    def part(self, keys: Collection[Key]) -> Self:
        """Move those of these rows that it has into a new one."""

    def ended(self, sequence: Sequence) -> None:
        """Part with a row that leaves the batch."""

    def catch_up(self, wanted: list[Row], hidden: Hidden) -> None:
        """Read on where it is behind with rows [B] that are to get proposals."""

    def propose(self, rows: list[Row], known: list[int], count: int, hidden: Hidden) -> dict[Key, list[int]]:
        """At most `count` tokens that may follow each row that is ready; `known` [B] are the latest tokens of `rows`,
        which are all of the batch's."""


class Drafter(ABC):
    """What proposes, and how often it is right. Engine thread only."""

    def __init__(self, most: int, pace: PrefillBudget) -> None:
        """It proposes at most `most` tokens at a time where that is measured, and reads prompts at its own `pace`."""
        self.pace = pace
        self.odds = FIRST_ODDS
        """How often a proposal for a new row is right, from 0 to 1."""
        self._most = most

    @abstractmethod
    def rows(self) -> Source:
        """What proposes to a batch that has no rows yet."""

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
        """How many tokens more than a row's [T] it can follow."""
        return NO_LIMIT


def unread_of(row: Row, latest: int, start: int) -> list[int]:
    """The tokens [T] of a row from place `start` on, the last of which is its `latest`."""
    prompt, emitted = row.sequence.prompt, row.sequence.emitted
    tokens = prompt[start:] + emitted if start < len(prompt) else emitted[start - len(prompt) :]
    return [*tokens[: row.length - start], latest]
