"""Which replica a request goes to, as pure functions: where it would be waited for least, known beginnings counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

K = TypeVar("K")

COMPANY = 0.2
"""By how much of its time a request takes longer beside as many as there are rows; little more than SmolLM2 did."""


class Placement(StrEnum):
    """Where a request went: to the replica that knows most of its prompt, to another because that one was too full, or
    anywhere since none knows it."""

    KNOWN = "known"
    SPILLED = "spilled"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Place:
    """A replica as one request sees it: characters of its prompt that are `known` there, of `rows` (at least one) how
    many are `taken`, or asked for by others before it, and characters of other prompts that are `forgotten` for it."""

    known: int
    taken: int
    rows: int
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a request is on a row, in seconds, and how long a character of a prompt takes to be read."""

    service_s: float
    prefill_s: float


def delay_s(place: Place, pace: Pace) -> float:
    """The seconds until a row is free and for which others slow a request down, less those of reading that it is
    spared, and with those that others are not. Only differences mean anything.

    What is forgotten counts, or all that have a beginning in common would come to one replica, while others were idle
    and empty.
    """
    rows_before = max(0, place.taken + 1 - place.rows) + COMPANY * place.taken
    return rows_before / place.rows * pace.service_s - (place.known - place.forgotten) * pace.prefill_s


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

    That place knows more of the prompt, and costs less although it may be fuller.
    """
    knowing = {key: delay_s(place, pace) for key, place in others.items() if place.known > offered.known}
    best = min(knowing, key=knowing.__getitem__, default=None)
    return best if best is not None and knowing[best] < delay_s(offered, pace) else None
