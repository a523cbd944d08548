"""The last few results of something that takes long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps `most` results, those that were asked for last. One thread only."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[K, V] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under a key, else what `make` makes. Nothing is kept if that raises."""
        value = self._kept[key] if key in self._kept else make()
        self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a result."""
        self._kept.pop(key, None)
        self._kept[key] = value
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def drop(self, key: K) -> None:
        """Forget a result, if it is there."""
        self._kept.pop(key, None)
