"""Caches that hold other caches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def flat(caches: Iterable[Any]) -> Iterator[Any]:
    """All caches, with those that they hold in the place of their holders."""
    for cache in caches:
        yield from flat(cache.caches) if hasattr(cache, "caches") else (cache,)
