"""KV states of prompts and answers that have been computed, for those that begin alike."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from mlx_server.workers.engine.kvcache.prefix_index import Beginning, PrefixIndex, alike, as_ids
from mlx_server.workers.engine.sequence import Sequence

log = logging.getLogger(__name__)

LEAST = 16
"""Tokens that must be alike: fewer are sooner computed than looked after."""

MOST_ENTRIES = 4096

MOST_CONVERSATIONS = 256

EVERYBODY = "\0everybody"
"""The tenant of what the server's operator had read: others' prompts may begin with it."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """Of what is kept and most alike, which has `of` tokens, the first `alike` are the same; `usable` tokens
    would be taken over, from this or another one."""

    alike: int
    of: int
    usable: int


class SecondTier(Protocol):
    """Where beginnings are kept that outlive the process."""

    def longest(self, new: Beginning, more_than: int) -> tuple[Beginning, list[Any]] | None:
        """The beginning there that has most in common with a new one, if that is more than so many tokens."""

    def nearest(self, new: Beginning) -> Nearest:
        """What of the kept is most alike."""

    def keep(self, entry: Beginning, cache: list[Any]) -> None:
        """Take a copy, some time."""

    def forget(self, entry: Beginning) -> None:
        """Drop what a longer beginning has too."""

    def close(self) -> None:
        """Finish what is under way."""


@dataclass(eq=False, slots=True)
class PrefixEntry:
    """The cache [one row] of a beginning, evaluated soon."""

    cache: list[Any]
    nbytes: int


class PrefixStore:
    """The least recently used leave when there are more than `limit_bytes`. Engine thread only, but for `nearest`.

    A cache that can't be cut short is kept only where `checkpoints` are, for sequences that have all of its tokens.
    """

    def __init__(self, limit_bytes: int, *, checkpoints: bool = False, second: SecondTier | None = None) -> None:
        self._limit = limit_bytes
        self._checkpoints = checkpoints
        self._second = second
        self._shares = False
        """Something is kept for everybody."""
        self._index = PrefixIndex()
        self._kept: OrderedDict[int, PrefixEntry] = OrderedDict()
        self._conversations: OrderedDict[tuple[str, str], Beginning] = OrderedDict()
        """The latest beginning of each, by owner and name."""
        self._bytes = 0
        self._told = False
        """That something can't be kept has been said."""
        self._number = 0
        self._lock = threading.Lock()

    @property
    def keeps(self) -> bool:
        """There is room for something."""
        return self._limit > 0

    @property
    def limit_bytes(self) -> int:
        """What all that is kept may take."""
        return self._limit

    @property
    def nbytes(self) -> int:
        """What is kept takes so much memory."""
        return self._bytes

    @property
    def version(self) -> int:
        """Another one whenever something has been kept."""
        return self._number

    def find(self, sequence: Sequence, least: int = LEAST) -> tuple[int, list[Any]] | None:
        """How many of a sequence's first tokens are known, if at `least` so many, and a cache of just these, for one's
        own use."""
        if not (self.keeps and sequence.use_cache) or len(sequence.context) <= least:
            return None
        new = beginning_of(sequence)
        best, number = self._index.longest(new)
        if self._shares:
            best, number = max((best, number), self._index.longest(beginning_of(sequence, tenant=EVERYBODY)))
        if self._second is not None and (found := self._second.longest(new, max(best, least - 1))) is not None:
            self._put(*found)
            best, number = max((best, number), self._index.longest(new))
        if best < least:
            return None
        entry, kept = self._index[number], self._kept[number]
        self._renew(number)
        cache = cut(kept.cache, len(entry), best)
        return None if cache is None else (best, cache)

    def keep(self, sequence: Sequence, cache: list[Any], tokens: int) -> None:
        """Keep the cache of a sequence's first so many tokens, if it may be of use later."""
        if not (self.keeps and sequence.use_cache) or tokens < LEAST or not aligned(cache, tokens):
            return
        whole = not all(layer.is_trimmable() for layer in cache)
        if whole and not self._checkpoints:
            return
        entry = beginning_of(sequence, tokens, whole=whole)
        self._shares = self._shares or sequence.tenant == EVERYBODY
        mx.async_eval([layer.state for layer in cache])
        self._put(entry, cache)
        if sequence.conversation:
            name = entry.owner, sequence.conversation
            self._conversations[name] = entry
            self._conversations.move_to_end(name)
            if len(self._conversations) > MOST_CONVERSATIONS:
                self._conversations.popitem(last=False)
        if self._second is not None:
            self._second.keep(entry, cache)

    def diverged(self, sequence: Sequence) -> tuple[int, int] | None:
        """Of the tokens that were kept last of a sequence's conversation: how many it begins with, and how many those
        are; None if it begins with all of them, or nothing is known of the conversation."""
        if not sequence.conversation:
            return None
        new = beginning_of(sequence)
        last = self._conversations.get((new.owner, sequence.conversation))
        if last is None or (same := alike(last, new, len(new))) >= min(len(last), len(new)):
            return None
        return same, len(last)

    def nearest(self, *new: Beginning) -> Nearest:
        """What of the kept is most alike, to the same tokens as several owners'. From any thread."""
        with self._lock:
            found = [nearest_of(self._index, one, LEAST) for one in new]
        if self._second is not None:
            found += [self._second.nearest(one) for one in new]
        best = max(found, key=lambda one: one.alike)
        return Nearest(best.alike, best.of, max(one.usable for one in found))

    def clear(self) -> None:
        """Forget all that is in memory."""
        for number in list(self._kept):
            self._drop(number)

    def close(self) -> None:
        """Forget all, once what goes to the second tier is there."""
        if self._second is not None:
            self._second.close()
        self.clear()

    def _put(self, entry: Beginning, cache: list[Any]) -> None:
        nbytes = sum(layer.nbytes for layer in cache)
        if nbytes <= self._limit:
            self._put_fitting(entry, cache)
            return
        length = 0 if entry.whole else int(len(entry) * self._limit / nbytes) // LEAST * LEAST
        log.log(
            logging.DEBUG if self._told else logging.WARNING,
            "KV states of %d tokens take %d MB, more than the %d MB for kept prompts: %d of them are kept, the rest is"
            " read again with each turn. Raise --prefix-cache-mb",
            len(entry),
            nbytes >> 20,
            self._limit >> 20,
            length,
        )
        self._told = True
        shorter = cut(cache, len(entry), length) if length else None
        if shorter is not None:
            for layer in shorter:  # in memory of its own
                layer.state = tree_map(
                    lambda one: mx.contiguous(one) if isinstance(one, mx.array) else one, layer.state
                )
            mx.async_eval([layer.state for layer in shorter])
            places = tuple(place for place in entry.places if place.end <= length)
            self._put_fitting(Beginning(entry.owner, entry.ids[:length], places), shorter)

    def _put_fitting(self, entry: Beginning, cache: list[Any]) -> None:
        nbytes = sum(layer.nbytes for layer in cache)
        for number in self._index.beginnings_of(entry):
            # One that can be cut short has all that its beginnings have.
            if not entry.whole or len(self._index[number]) == len(entry):
                self._drop(number, superseded=True)
        self._number += 1
        with self._lock:
            self._index.add(self._number, entry)
        self._kept[self._number] = PrefixEntry(cache, nbytes)
        self._bytes += nbytes
        while self._kept and (self._bytes > self._limit or len(self._kept) > MOST_ENTRIES):
            self._drop(next(iter(self._kept)))

    def _renew(self, number: int) -> None:
        """Have it be the most recently used one."""
        self._number += 1
        with self._lock:
            self._index.add(self._number, self._index.remove(number))
        self._kept[self._number] = self._kept.pop(number)

    def _drop(self, number: int, *, superseded: bool = False) -> None:
        with self._lock:
            entry = self._index.remove(number)
        self._bytes -= self._kept.pop(number).nbytes
        if superseded and self._second is not None:
            self._second.forget(entry)


def nearest_of(index: PrefixIndex, new: Beginning, least: int) -> Nearest:
    """What of an index is most alike; fewer than `least` tokens are not taken over."""
    alike, number = index.nearest(new)
    usable, _ = index.longest(new)
    return Nearest(alike, len(index[number]) if number >= 0 else 0, usable if usable >= least else 0)


def owner_of(tenant: str, variant: str) -> str:
    """What has to be equal for anything to be shared: whose it is, and what the model wears. Tells neither."""
    return hashlib.sha256(f"{tenant}\0{variant}".encode()).hexdigest()[:32]


def beginning_of(
    sequence: Sequence, tokens: int | None = None, *, whole: bool = False, tenant: str | None = None
) -> Beginning:
    """A sequence's first so many tokens, or all of them so far, with the pictures that are wholly among them; as its
    own tenant's, or another's."""
    if sequence.ids is None:
        sequence.ids = as_ids(sequence.prompt)
    ids = np.concatenate([sequence.ids, as_ids(sequence.emitted)]) if sequence.emitted else sequence.ids
    ids = ids if tokens is None else ids[:tokens]
    places = () if sequence.media is None else sequence.media.places
    if tokens is not None:
        places = tuple(place for place in places if place.end <= tokens)
    owner = owner_of(sequence.tenant if tenant is None else tenant, sequence.variant)
    return Beginning(owner, ids, places, whole)


def aligned(cache: list[Any], tokens: int) -> bool:
    """Every layer that counts tokens has seen so many."""
    return all(getattr(layer, "offset", tokens) == tokens for layer in cache)


def cut(cache: list[Any], tokens: int, length: int) -> list[Any] | None:
    """A copy of a cache without what is after its first tokens; None where it can't be cut there."""
    cache = copy.deepcopy(cache)
    surplus = tokens - length
    if surplus and any(layer.trim(surplus) != surplus for layer in cache):
        return None
    for layer in cache:
        layer.state = layer.state
        if surplus and type(layer).__name__ == "KVCache" and layer.keys is not None:
            # A long buffer would be copied for a short beginning, with the next token.
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
    return cache
