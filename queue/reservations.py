"""Places for those that were refused and come back when they were told to: newcomers leave them free."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import NamedTuple

GRACE_S = 3.0
"""So long after its time a place is kept: clients are told whole seconds, and need some time to come."""

AHEAD_S = 1.0
"""So long before its time a place is left free, at least: free ones would be gone by then."""

AHEAD_SERVICES = 1.5
"""And as long as so many requests take: rows that began together end together, so that more places are free only then,
and somewhat later where the machine has more to do."""

MOST = 10_000
"""Who is refused while so many are expected gets none."""

Returning = tuple[str, int]
"""Whose request it is, and what it says, as a number."""

TOGETHER_S = 1.0
"""Equal requests that come within this time are several clients'; a later one is an impatient one's."""


class Place(NamedTuple):
    """When somebody is to come, and when it was first told to."""

    at: float
    since: float


class Reservations:
    """Who was told to come when. Times never go back, so the first that are expected come first."""

    def __init__(self) -> None:
        self._expected: dict[Returning, Place] = {}

    def expect(self, who: Returning, at: float, now: float) -> None:
        """It was told to come at this time."""
        before = self._expected.pop(who, None)
        if before is not None or len(self._expected) < MOST:
            self._expected[who] = Place(at, now if before is None or before.at <= now else before.since)

    def too_early(self, who: Returning, now: float) -> float | None:
        """The time that it was told and did not wait for; None if it has to be told one."""
        place = self._expected.get(who)
        return None if place is None or place.at <= now or now - place.since < TOGETHER_S else place.at

    def is_due(self, who: Returning, now: float) -> bool:
        """Whether its time has come."""
        place = self._expected.get(who)
        return place is not None and now - GRACE_S <= place.at <= now

    def take(self, who: Returning) -> None:
        """It has its place."""
        self._expected.pop(who, None)

    def due(self, now: float, most: int, service_s: float = 0.0) -> int:
        """How many will come now or soon, at most `most`, where a request takes `service_s`; who did not come in time
        is forgotten."""
        soon = now + max(AHEAD_S, AHEAD_SERVICES * service_s)
        for who in [*takewhile(lambda one: self._expected[one].at < now - GRACE_S, self._expected)]:
            del self._expected[who]
        return sum(1 for _ in takewhile(lambda place: place.at <= soon, islice(self._expected.values(), most)))
