"""Loads that wait for memory, and which of them is next. Pure: no clock, no task."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mlx_server.app.fleet.ledger import Evict, Fits, Plan, Wait

MOST_PASSES = 4
"""How many that came later may be admitted before a load; then its turn comes before any priority."""


@dataclass(frozen=True)
class WaitingLoad:
    """A load that waits for memory; `position` 0 is the next."""

    name: str
    priority: int
    since: datetime
    position: int


@dataclass(eq=False)
class PendingLoad:
    """A load in the queue. `number` counts those that were added, `passed` those that were admitted before it."""

    name: str
    required_bytes: int
    priority: int
    since: datetime
    number: int
    passed: int = 0

    @property
    def overdue(self) -> bool:
        """Nobody who came later goes first any more."""
        return self.passed >= MOST_PASSES

    @property
    def rank(self) -> tuple[bool, int, int]:
        """What the queue is sorted by."""
        return (not self.overdue, 0 if self.overdue else -self.priority, self.number)


class LoadOrder:
    """The queue of loads: highest priority first, then first come first served.

    While the first has to wait until others are idle, one behind it that fits as it is may go; so may one of higher
    priority that came later. Either happens to a load `MOST_PASSES` times at most, so that none waits for ever.
    """

    def __init__(self) -> None:
        self._pending: list[PendingLoad] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def pending(self) -> list[PendingLoad]:
        """Who waits, the next one first."""
        return sorted(self._pending, key=lambda load: load.rank)

    @property
    def waiting(self) -> list[WaitingLoad]:
        """Who waits, for people."""
        return [
            WaitingLoad(load.name, load.priority, load.since, position) for position, load in enumerate(self.pending)
        ]

    def add(self, name: str, required_bytes: int, priority: int, since: datetime) -> PendingLoad:
        """Add a load; `since` is now."""
        load = PendingLoad(name, required_bytes, priority, since, next(self._numbers))
        self._pending.append(load)
        return load

    def remove(self, load: PendingLoad) -> None:
        """Give up waiting. Idempotent."""
        if load in self._pending:
            self._pending.remove(load)

    def admit(self, load: PendingLoad) -> None:
        """Its turn has come: it leaves, and those that came before it have been passed once more."""
        self.remove(load)
        for other in self._pending:
            other.passed += other.number < load.number

    def set_priority(self, name: str, priority: int) -> bool:
        """Move a load; False if it is not in the queue."""
        found = [load for load in self._pending if load.name == name]
        for load in found:
            load.priority = priority
        return bool(found)

    def next(self, plan: Callable[[PendingLoad], Plan]) -> tuple[PendingLoad, Plan] | None:
        """Whom to do something about, and what; None if nobody waits.

        That is the first, unless it has to wait and one behind it fits, or never will.
        """
        pending = self.pending
        if not pending:
            return None
        first, decided = pending[0], plan(pending[0])
        if isinstance(decided, Wait) and not first.overdue:
            for load in pending[1:]:
                other = plan(load)
                if not isinstance(other, Wait | Evict) and (self._may_pass(load) or not isinstance(other, Fits)):
                    return load, other
        return first, decided

    def _may_pass(self, load: PendingLoad) -> bool:
        """Nobody who came before it has been passed too often."""
        return not any(other.overdue for other in self._pending if other.number < load.number)
