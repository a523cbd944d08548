"""Caches that hold others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def flat(caches: Iterable[Any]) -> Iterator[Any]:
    """Caches, and those inside them."""
    for cache in caches:
        yield from flat(cache.caches) if hasattr(cache, "caches") else (cache,)
