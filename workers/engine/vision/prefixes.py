"""KV states of prompts and answers that have been computed, for those that begin alike."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlx_server.workers.engine.vision.places import Place
from mlx_server.workers.sequence import Sequence

Ids = npt.NDArray[np.int64]

Head = tuple[str, bytes, tuple[Place, ...]]
"""What has to be equal in two entries that have LEAST tokens in common: the tenant, these tokens, and the pictures that
begin among them."""

LEAST = 16
"""Tokens that must be alike: fewer are sooner computed than looked after."""

MOST_ENTRIES = 256
"""All are compared with each new prompt, a few microseconds each."""


@dataclass(eq=False, slots=True)
class Kept:
    """The cache [one row] of the tokens of one sequence, with the pictures among them."""

    head: Head
    tokens: Ids
    pictures: tuple[Place, ...]
    cache: list[Any]
    nbytes: int


class PrefixStore:
    """The least recently used leave when there are more than `limit_bytes`. Engine thread only.

    Equal tokens are not enough: placeholders of pictures must stand for the same picture, and the tenant must be the
    same. Looking up compares the new tokens with all that is kept and begins alike, which for so few and long entries
    costs less than an index and finds the longest beginning whatever its length.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._bytes = 0
        self._number = 0

    @property
    def keeps(self) -> bool:
        """There is room for something."""
        return self._limit > 0

    def find(self, sequence: Sequence) -> tuple[int, list[Any]] | None:
        """How many of a sequence's first tokens are known, and a cache of just these, for one's own use."""
        if not self._kept:
            return None
        tokens, pictures = np.array(sequence.context, np.int64), pictures_of(sequence)
        head = head_of(sequence.tenant, tokens, pictures)
        best, number = 0, -1
        for candidate, kept in self._kept.items():
            if kept.head == head:
                length = alike(kept, tokens, pictures)
                best, number = max((best, number), (length, candidate))
        if best < LEAST:
            return None
        self._kept.move_to_end(number)
        cache = trimmed(self._kept[number], best)
        return None if cache is None else (best, cache)

    def keep(self, sequence: Sequence, cache: list[Any], tokens: int) -> None:
        """Keep the cache of a sequence's first so many tokens, if it can be cut short later."""
        if not self.keeps or tokens < LEAST or not all(layer.is_trimmable() for layer in cache):
            return
        if getattr(cache[0], "offset", None) != tokens:
            return
        pictures = tuple(one for one in pictures_of(sequence) if one.end <= tokens)
        ids = np.array(sequence.context[:tokens], np.int64)
        mx.eval([layer.state for layer in cache])
        kept = Kept(head_of(sequence.tenant, ids, pictures), ids, pictures, cache, sum(layer.nbytes for layer in cache))
        if kept.nbytes > self._limit:
            return
        self._drop_beginnings(kept)
        self._number += 1
        self._kept[self._number] = kept
        self._bytes += kept.nbytes
        while self._bytes > self._limit or len(self._kept) > MOST_ENTRIES:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._bytes = 0

    def _drop_beginnings(self, longer: Kept) -> None:
        """Leave nothing that a longer one has too."""
        for number, kept in list(self._kept.items()):
            if kept.head == longer.head and len(kept.tokens) <= len(longer.tokens):
                length = len(kept.tokens)
                same = longer.pictures[: len(kept.pictures)] == kept.pictures
                if same and np.array_equal(kept.tokens, longer.tokens[:length]):
                    self._drop(number)

    def _drop(self, number: int) -> None:
        self._bytes -= self._kept.pop(number).nbytes


def head_of(tenant: str, tokens: Ids, pictures: tuple[Place, ...]) -> Head:
    """What a sequence begins with."""
    return tenant, tokens[:LEAST].tobytes(), tuple(one for one in pictures if one.start < LEAST)


def pictures_of(sequence: Sequence) -> tuple[Place, ...]:
    """The pictures and sounds in a sequence's prompt."""
    return () if sequence.media is None else sequence.media.places


def alike(kept: Kept, tokens: Ids, pictures: tuple[Place, ...]) -> int:
    """How many tokens at the beginning are the same, but never all, and no part of a picture."""
    most = min(len(kept.tokens), len(tokens) - 1)
    differing = np.flatnonzero(kept.tokens[:most] != tokens[:most])
    length = int(differing[0]) if differing.size else most
    known = set(kept.pictures)
    for picture in pictures:
        if picture.start < length and (picture.end > length or picture not in known):
            return picture.start
    # A picture of the kept one may be gone here, and its placeholders be plain tokens that someone wrote.
    theirs = [picture.start for picture in kept.pictures if picture.start < length and picture not in pictures]
    return min([length, *theirs])


def trimmed(kept: Kept, tokens: int) -> list[Any] | None:
    """A copy of a cache without what is after its first tokens; None where it can't be cut there."""
    cache = copy.deepcopy(kept.cache)
    surplus = len(kept.tokens) - tokens
    if surplus and any(layer.trim(surplus) != surplus for layer in cache):
        return None
    for layer in cache:
        layer.state = layer.state  # without this a long buffer would be copied for a short beginning
    return cache
