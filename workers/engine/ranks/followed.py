"""Caches of rank 0 that other ranks have counterparts of, and the orders that keep these alike."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from mlx_server.workers.engine.ranks.orders import Forget, Fork, Order


class OrderBook:
    """Orders that the other ranks have not got yet. Caches are numbered from 1."""

    def __init__(self) -> None:
        self._orders: list[Order] = []
        self._forgotten: list[int] = []
        self._count = 0

    def tell(self, order: Order) -> None:
        """Have the others do so, before they next call the model."""
        self._orders.append(order)

    def number(self, cache: FollowedCache) -> int:
        """A new cache's number; once it is gone, the others forget theirs."""
        self._count += 1
        weakref.finalize(cache, self._forgotten.append, self._count)
        return self._count

    def take(self) -> list[Order]:
        """All orders since the last time."""
        orders, self._orders = self._orders, []
        if self._forgotten:
            gone, self._forgotten[:] = list(self._forgotten), []
            orders.append(Forget(gone))
        return orders


class FollowedCache(list[Any]):
    """The layers of a cache. What is done to it through `kvcache.layers` is done by every rank."""

    def __init__(self, layers: Iterable[Any], book: OrderBook) -> None:
        super().__init__(layers)
        self._book = book
        self.number = book.number(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> FollowedCache:
        return self.make(copy.deepcopy(list(self), memo), lambda made: Fork(made, self.number))

    def tell(self, order: Order) -> None:
        """Have the other ranks do so."""
        self._book.tell(order)

    def make(self, layers: Iterable[Any], order: Callable[[int], Order]) -> FollowedCache:
        """A cache of these layers, which the other ranks make by the order for its number."""
        made = FollowedCache(layers, self._book)
        self.tell(order(made.number))
        return made


def number_of(cache: list[Any]) -> int:
    """The number of a cache. Raises TypeError for one that no other rank has."""
    if not isinstance(cache, FollowedCache):
        raise TypeError("this cache is not one that other ranks follow")
    return cache.number
