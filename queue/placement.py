"""Which replica a request goes to, as pure functions: where it would be waited for least, known beginnings counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

K = TypeVar("K")


class Placement(StrEnum):
    """Where a request went: to the replica that knows most of its prompt, to another because that one was too full, or
    anywhere since none knows it."""

    KNOWN = "known"
    SPILLED = "spilled"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Place:
    """A replica as one request sees it: characters of its prompt that are `known` there, and of `rows` (at least one)
    how many are `taken`, or asked for by others before it."""

    known: int
    taken: int
    rows: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a request is on a row, in seconds, and how long a character of a prompt takes to be read."""

    service_s: float
    prefill_s: float


def delay_s(place: Place, pace: Pace) -> float:
    """The seconds of work before a request, less those that it is spared. Only differences mean anything."""
    return place.taken / place.rows * pace.service_s - place.known * pace.prefill_s


def spared_s(place: Place, other: Place, pace: Pace) -> float:
    """The seconds of reading that one place spares compared with another."""
    return max(0, place.known - other.known) * pace.prefill_s


def placement(known: int, most: int) -> Placement:
    """Where one went, to whose replica `known` characters of it are known, and `most` to any."""
    if not most:
        return Placement.NEW
    return Placement.KNOWN if known == most else Placement.SPILLED


def rather(offered: Place, others: Mapping[K, Place], pace: Pace) -> K | None:
    """For which place a request declines the one that it is offered; None: it takes it.

    That place knows more of the prompt, and is fuller by less than what this spares.
    """
    knowing = {key: delay_s(place, pace) for key, place in others.items() if place.known > offered.known}
    best = min(knowing, key=knowing.__getitem__, default=None)
    return best if best is not None and knowing[best] < delay_s(offered, pace) else None
