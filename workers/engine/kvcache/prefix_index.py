"""An index of prefixes: finds the one that shares most tokens with a new sequence, in microseconds, however long they
are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
"""Token ids [T]."""

FIRST_STOPS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
STRIDE = 256
"""Prefixes of these lengths, and from there on of every further STRIDE tokens, have digests."""

CHECKPOINTS = 3
"""Checkpoints of a prompt: at its last ends of messages, this many, and at its first."""

MOST_COMPARED = 32
"""Entries that are compared token by token in one search, the most recently used ones first."""


class Place(Protocol):
    """A span of tokens whose content their ids don't tell, such as a picture; equal spans have equal content."""

    @property
    def start(self) -> int:
        """The index of its first token."""

    @property
    def end(self) -> int:
        """The index after its last token."""


@dataclass(eq=False, slots=True)
class Beginning:
    """A prefix: its token ids, the owner with whom alone it may be shared, and the places among the tokens.

    `whole`: it can't be cut, so it is of use only to a sequence that starts with all of it.
    """

    owner: str
    ids: Ids
    places: tuple[Place, ...] = ()
    whole: bool = False
    digests: list[int] = field(init=False, repr=False)
    """One per stop."""

    def __post_init__(self) -> None:
        self.digests = digests(self.owner, self.ids, self.places)

    def __len__(self) -> int:
        return len(self.ids)


class PrefixIndex:
    """Prefixes by number, a larger one for each that is added or used later. Not locked: its owner sees to that."""

    def __init__(self) -> None:
        self._entries: dict[int, Beginning] = {}
        self._nodes: dict[int, int | set[int]] = {}
        """Numbers by digest: a set where several prefixes share one."""
        self._ends: dict[int, set[int]] = {}
        """Numbers of `whole` prefixes, by their last digests."""

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> Beginning:
        return self._entries[number]

    def add(self, number: int, entry: Beginning) -> None:
        """Add a prefix."""
        self._entries[number] = entry
        if entry.whole and entry.digests:
            self._ends.setdefault(entry.digests[-1], set()).add(number)
        for digest in entry.digests:
            known = self._nodes.get(digest)
            if known is None:
                self._nodes[digest] = number
            elif isinstance(known, set):
                known.add(number)
            else:
                self._nodes[digest] = {known, number}

    def remove(self, number: int) -> Beginning:
        """Remove a prefix and return it."""
        entry = self._entries.pop(number)
        if entry.whole and entry.digests:
            others = self._ends[entry.digests[-1]]
            others.discard(number)
            if not others:
                del self._ends[entry.digests[-1]]
        for digest in entry.digests:
            known = self._nodes[digest]
            if isinstance(known, set):
                known.discard(number)
                if not known:
                    del self._nodes[digest]
            else:
                del self._nodes[digest]
        return entry

    def longest(self, new: Beginning) -> tuple[int, int]:
        """The most tokens that a sequence may take over from one entry, but never all of its own, and that entry's
        number; (0, -1) if from none."""
        most = len(new) - 1
        best = self._longest_whole(new, most)
        for stop, number in self._candidates(new):
            if best[0] >= min(stop, most):
                break
            entry = self._entries[number]
            if not entry.whole:
                best = max(best, (alike(entry, new, min(stop, most)), number))
        return best

    def _longest_whole(self, new: Beginning, most: int) -> tuple[int, int]:
        """As `longest`, among `whole` entries: many others share their first tokens, so these are found by where they
        end."""
        for digest in reversed(new.digests):
            numbers = heapq.nlargest(MOST_COMPARED, self._ends.get(digest, ()))
            ended = [(len(self._entries[n]), n) for n in numbers if len(self._entries[n]) <= most]
            found = [(length, n) for length, n in ended if alike(self._entries[n], new, length) == length]
            if found:
                return max(found)
        return 0, -1

    def nearest(self, new: Beginning) -> tuple[int, int]:
        """As `longest`, of all tokens, whether or not they may be taken over."""
        found = ((alike(self._entries[number], new, stop), number) for stop, number in self._candidates(new))
        return max(found, default=(0, -1))

    def beginnings_of(self, longer: Beginning) -> list[int]:
        """The numbers of entries that are prefixes of a longer one."""
        return [
            number
            for stop, number in self._candidates(longer)
            if len(entry := self._entries[number]) <= len(longer) and alike(entry, longer, stop) == len(entry)
        ]

    def _candidates(self, new: Beginning) -> Iterator[tuple[int, int]]:
        """Entries that may share a prefix, the longest first, each with an upper bound of its length: the next stop
        after it, or the end of the new tokens."""
        seen: set[int] = set()
        ends = [*stops(len(new)), len(new)]
        for level in range(len(new.digests) - 1, -1, -1):
            known = self._nodes.get(new.digests[level])
            if known is None:
                continue
            numbers = known - seen if isinstance(known, set) else {known} - seen
            for number in heapq.nlargest(MOST_COMPARED - len(seen), numbers):
                seen.add(number)
                yield ends[level + 1], number
            if len(seen) >= MOST_COMPARED:
                return


def as_ids(tokens: Sequence[int]) -> Ids:
    """Token ids as int32 [T]. This takes longer than a search in the index: do it once, off the engine's thread."""
    return np.array(tokens, np.int32)


@lru_cache(maxsize=64)
def late_stops(count: int) -> tuple[int, ...]:
    """`count` stops after the first ones."""
    return tuple(FIRST_STOPS[-1] + STRIDE * (i + 1) for i in range(count))


def stops(length: int) -> tuple[int, ...]:
    """The lengths of prefixes that have digests, for `length` tokens."""
    if length >= FIRST_STOPS[-1]:
        return FIRST_STOPS + late_stops((length - FIRST_STOPS[-1]) // STRIDE)
    return tuple(stop for stop in FIRST_STOPS if stop <= length)


def digests(owner: str, ids: Ids, places: Iterable[Place]) -> list[int]:
    """A digest of the token ids int32 [T] and places up to each stop. A match is verified before it is used."""
    data, width = ids.tobytes(), ids.itemsize
    by_start = sorted(places, key=lambda place: place.start)
    digest, start, found = hash(owner), 0, []
    for stop in stops(len(ids)):
        here = tuple(place for place in by_start if start <= place.start < stop) if by_start else ()
        digest = hash((digest, data[start * width : stop * width], here))
        found.append(digest)
        start = stop
    return found


def alike(kept: Beginning, new: Beginning, most: int) -> int:
    """The number of tokens in the common prefix, at most `most`, without a part of a picture."""
    if kept.owner != new.owner:
        return 0
    most = min(len(kept), most)
    differing = np.flatnonzero(kept.ids[:most] != new.ids[:most])
    length = int(differing[0]) if differing.size else most
    if not (kept.places or new.places):
        return length
    known = set(kept.places)
    for place in new.places:
        if place.start < length and (place.end > length or place not in known):
            return place.start
    # A picture of the kept one may be gone here, and its placeholders be plain tokens that someone wrote.
    theirs = [place.start for place in kept.places if place.start < length and place not in new.places]
    return min([length, *theirs])
