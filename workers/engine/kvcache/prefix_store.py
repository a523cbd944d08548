"""The prefix cache: KV states of prompts and answers, for sequences that start with the same tokens."""

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

from mlx_server.workers.engine.kvcache.layers import own_states, shorten
from mlx_server.workers.engine.kvcache.prefix_index import Beginning, PrefixIndex, alike, as_ids
from mlx_server.workers.engine.sequence import Sequence

log = logging.getLogger(__name__)

LEAST = 16
"""The fewest tokens worth taking over: fewer are computed sooner than they are looked up."""

MOST_ENTRIES = 4096

MOST_CONVERSATIONS = 256

EVERYBODY = "\0everybody"
"""The tenant of prompts that the operator had read: any tenant's prompts may start with them."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The cached prefix with most tokens in common: it has `of` tokens, of which the first `alike` are shared. `usable`
    tokens would be taken over, from this entry or another."""

    alike: int
    of: int
    usable: int


class SecondTier(Protocol):
    """A cache of prefixes that outlives the process."""

    @property
    def nbytes(self) -> int:
        """The bytes of memory that prefixes take until they are stored."""

    def release(self, nbytes: int) -> int:
        """Drop prefixes that are not stored yet, until so many bytes are free or none is left; the bytes that are."""

    def longest(self, new: Beginning, more_than: int) -> tuple[Beginning, list[Any]] | None:
        """The prefix that shares most tokens with a new one, and its cache, if these are more than `more_than`."""

    def nearest(self, new: Beginning) -> Nearest:
        """The prefix with most tokens in common."""

    def keep(self, entry: Beginning, cache: list[Any]) -> None:
        """Store a copy, some time later."""

    def forget(self, entry: Beginning) -> None:
        """Drop a prefix that a longer one contains."""

    def close(self) -> None:
        """Finish what is being stored."""


@dataclass(eq=False, slots=True)
class PrefixEntry:
    """A prefix's cache, of one row, evaluated soon."""

    cache: list[Any]
    nbytes: int


class PrefixStore:
    """An LRU cache of prefixes that take up to `limit_bytes`. Engine thread only, except for `nearest`.

    A cache that can't be cut is kept only if `checkpoints` is set, for sequences that start with all of its tokens.
    """

    def __init__(self, limit_bytes: int, *, checkpoints: bool = False, second: SecondTier | None = None) -> None:
        self._limit = limit_bytes
        self._checkpoints = checkpoints
        self._second = second
        self._shares = False
        """Whether EVERYBODY has an entry."""
        self._index = PrefixIndex()
        self._kept: OrderedDict[int, PrefixEntry] = OrderedDict()
        self._conversations: OrderedDict[tuple[str, str], Beginning] = OrderedDict()
        """The latest prefix of each conversation, by owner and name."""
        self._bytes = 0
        self._told = False
        """Whether it was logged that a prefix is too large."""
        self._number = self._added = 0
        self._lock = threading.Lock()

    @property
    def keeps(self) -> bool:
        """Whether anything can be cached."""
        return self._limit > 0

    @property
    def limit_bytes(self) -> int:
        """The most bytes that all entries may take."""
        return self._limit

    @property
    def nbytes(self) -> int:
        """The bytes that all entries take, and copies of them that are still to be stored."""
        return self._bytes + (0 if self._second is None else self._second.nbytes)

    @property
    def version(self) -> int:
        """How many entries have been added."""
        return self._added

    def find(self, sequence: Sequence, least: int = LEAST) -> tuple[int, list[Any]] | None:
        """The longest cached prefix of a sequence that has at least `least` tokens: its length, and a copy of its cache
        for the caller."""
        if not (self.keeps and sequence.use_cache) or len(sequence.context) <= least:
            return None
        new = beginning_of(sequence)
        best, number = self._index.longest(new)
        if self._shares:
            best, number = max((best, number), self._index.longest(beginning_of(sequence, tenant=EVERYBODY)))
        if self._second is not None and (found := self._second.longest(new, max(best, least - 1))) is not None:
            entry, cache = found
            if sum(layer.nbytes for layer in cache) > self._limit:  # for this sequence alone
                length = alike(entry, new, len(new) - 1)
                if shorten(cache, len(entry), length):
                    return length, cache
            else:
                self._put(entry, cache)
                best, number = max((best, number), self._index.longest(new))
        if best < least:
            return None
        entry, kept = self._index[number], self._kept[number]
        self._renew(number)
        own = cut(kept.cache, len(entry), best)
        return None if own is None else (best, own)

    def keep(self, sequence: Sequence, cache: list[Any], tokens: int) -> None:
        """Cache a sequence's first `tokens` tokens, if that may be of use later; the least recently used entries are
        evicted."""
        if not (self.keeps and sequence.use_cache) or tokens < LEAST or not aligned(cache, tokens):
            return
        whole = not all(layer.is_trimmable() for layer in cache)
        if whole and not self._checkpoints:
            return
        entry = beginning_of(sequence, tokens, whole=whole)
        self._shares = self._shares or sequence.tenant == EVERYBODY
        own_states(cache)
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
        """The number of tokens that a sequence shares with its conversation's latest prefix, and that prefix's length;
        None if it starts with all of it, or the conversation is unknown."""
        if not sequence.conversation:
            return None
        new = beginning_of(sequence)
        last = self._conversations.get((new.owner, sequence.conversation))
        if last is None or (same := alike(last, new, len(new))) >= min(len(last), len(new)):
            return None
        return same, len(last)

    def nearest(self, *new: Beginning) -> Nearest:
        """The cached prefix that has most tokens in common with any of these: the same tokens, of several owners. From
        any thread."""
        with self._lock:
            found = [nearest_of(self._index, one, LEAST) for one in new]
        if self._second is not None:
            found += [self._second.nearest(one) for one in new]
        best = max(found, key=lambda one: one.alike)
        return Nearest(best.alike, best.of, max(one.usable for one in found))

    def evict(self, nbytes: int) -> None:
        """Evict what is still to be stored, then the least recently used entries, until so many bytes are free, or all
        are gone."""
        if self._second is not None:
            nbytes -= self._second.release(nbytes)
        most = self._bytes - nbytes
        while self._kept and self._bytes > most:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Evict all that is in memory."""
        for number in list(self._kept):
            self._drop(number)

    def close(self) -> None:
        """Evict all, once the second tier has stored what it was given."""
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
        self._added += 1
        with self._lock:
            self._index.add(self._number, entry)
        self._kept[self._number] = PrefixEntry(cache, nbytes)
        self._bytes += nbytes
        while self._kept and (self._bytes > self._limit or len(self._kept) > MOST_ENTRIES):
            self._drop(next(iter(self._kept)))

    def _renew(self, number: int) -> None:
        """Make an entry the most recently used one."""
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
    """The entry of an index with most tokens in common; fewer than `least` tokens are not usable."""
    alike, number = index.nearest(new)
    usable, _ = index.longest(new)
    return Nearest(alike, len(index[number]) if number >= 0 else 0, usable if usable >= least else 0)


def owner_of(tenant: str, variant: str) -> str:
    """A digest of what must be equal for entries to be shared: tenant and variant. It reveals neither."""
    return hashlib.sha256(f"{tenant}\0{variant}".encode()).hexdigest()[:32]


def beginning_of(
    sequence: Sequence, tokens: int | None = None, *, whole: bool = False, tenant: str | None = None
) -> Beginning:
    """A sequence's first `tokens` tokens, or all of them so far, with the pictures that lie wholly among them; as its
    own tenant's or another's."""
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
    """Whether every layer that counts tokens has seen this many."""
    return all(getattr(layer, "offset", tokens) == tokens for layer in cache)


def cut(cache: list[Any], tokens: int, length: int) -> list[Any] | None:
    """A copy of the cache of `tokens` tokens, cut to the first `length`; None where it can't be cut there."""
    fork = copy.deepcopy(cache)
    return fork if shorten(fork, tokens, length) else None
