"""Caches that hold other caches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def flat(caches: Iterable[Any]) -> Iterator[Any]:
    """All caches, with those that they hold in the place of their holders."""
    for cache in caches:
        yield from flat(cache.caches) if hasattr(cache, "caches") else (cache,)


def each(cache: Any, change: Callable[[Any], Any]) -> Any:
    """What a cache is changed to; a copy of one that holds others, with each of those changed."""
    if not hasattr(cache, "caches"):
        return change(cache)
    cache = copy.copy(cache)
    cache.caches = tuple(each(one, change) for one in cache.caches)
    return cache
