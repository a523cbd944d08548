"""Loads that wait for room, and who of them is next. Pure: no clock, no task."""

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
    """A load that waits for room; `position` 0 is the next."""

    name: str
    priority: int
    since: datetime
    position: int


@dataclass(eq=False)
class Place:
    """A load's place in the line. `number` counts up with those that join, `passed` those that were faster."""

    name: str
    need_bytes: int
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
        """What the line is sorted by."""
        return (not self.overdue, 0 if self.overdue else -self.priority, self.number)


class LoadOrder:
    """The line: highest priority first, then first come first served.

    While the first has to wait until others are idle, one behind it that fits as it is may go; so may one of higher
    priority that came later. Either happens to a load `MOST_PASSES` times at most, so that none waits for ever.
    """

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def places(self) -> list[Place]:
        """Who waits, the next one first."""
        return sorted(self._places, key=lambda place: place.rank)

    @property
    def waiting(self) -> list[WaitingLoad]:
        """Who waits, for people."""
        return [
            WaitingLoad(place.name, place.priority, place.since, position) for position, place in enumerate(self.places)
        ]

    def position(self, name: str) -> int | None:
        """How many are before this model; None if it is not in the line."""
        return next((index for index, place in enumerate(self.places) if place.name == name), None)

    def join(self, name: str, need_bytes: int, priority: int, since: datetime) -> Place:
        """Queue up; `since` is now."""
        place = Place(name, need_bytes, priority, since, next(self._numbers))
        self._places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give up waiting. Idempotent."""
        if place in self._places:
            self._places.remove(place)

    def admit(self, place: Place) -> None:
        """Its turn has come: it leaves, and those that came before it have been passed once more."""
        self.leave(place)
        for other in self._places:
            other.passed += other.number < place.number

    def set_priority(self, name: str, priority: int) -> bool:
        """Move a load; False if it is not in the line."""
        found = [place for place in self._places if place.name == name]
        for place in found:
            place.priority = priority
        return bool(found)

    def next(self, plan: Callable[[Place], Plan]) -> tuple[Place, Plan] | None:
        """Whom to do something about, and what; None if nobody waits.

        That is the first, unless it has to wait and one behind it fits, or never will.
        """
        places = self.places
        if not places:
            return None
        first, decided = places[0], plan(places[0])
        if isinstance(decided, Wait) and not first.overdue:
            for place in places[1:]:
                other = plan(place)
                if not isinstance(other, Wait | Evict) and (self._may_pass(place) or not isinstance(other, Fits)):
                    return place, other
        return first, decided

    def _may_pass(self, place: Place) -> bool:
        """Nobody who came before it has been passed too often."""
        return not any(other.overdue for other in self._places if other.number < place.number)
