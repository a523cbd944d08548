"""A model that several processes compute: how each of them calls its part, and rank 0 all of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_server.workers.engine.ranks.followed import FollowedCache, OrderBook, number_of
from mlx_server.workers.engine.ranks.orders import Forward, MakeCache, Measure, Order
from mlx_server.workers.errors import GroupLost, one_line

states_only: ContextVar[bool] = ContextVar("states_only", default=False)
"""Whether the model is called only for what it leaves in its cache."""


class Followers(Protocol):
    """The other ranks, as the engine thread of rank 0 sees them."""

    def send(self, orders: list[Order]) -> None:
        """Have them carry out orders. Raises OSError if one of them is gone."""

    def lost(self, reason: str) -> None:
        """End this process, whose group can't go on."""


class LeadingModel:
    """Rank 0's model: whatever it computes the other ranks compute too. Engine thread only.

    MLX's messages have no names: they have to be sent and received in the same order everywhere. So everything that
    exchanges any is begun in `__call__`, on one stream (what mlx-lm's models exchange follows from one another), and
    nothing is left for somebody who evaluates it later, on another stream, or not at all.
    """

    def __init__(self, model: Any, group: mx.distributed.Group, followers: Followers) -> None:
        self._model = model
        self._group = group
        self._followers = followers
        self._stream = mx.default_stream(mx.default_device())
        self._book = OrderBook()

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array | None:
        """The logits [B, T, V] after tokens [B, T]; None where the model is called for its states only. Raises
        TypeError for a cache that the others don't have, and GroupLost."""
        reads = states_only.get()
        rows, columns = tokens.shape
        self._tell(Forward((rows, columns), None if cache is None else number_of(cache), reads))
        try:
            with mx.stream(self._stream):
                return compute(self._model, shared(tokens, self._group), cache, reads=reads)
        except Exception as error:
            raise self._lost(f"rank 0 failed: {one_line(error)}") from error

    def make_cache(self) -> list[Any]:
        """An empty cache, as `make_prompt_cache` wants it."""
        cache = FollowedCache(make_prompt_cache(self._model), self._book)
        cache.tell(MakeCache(cache.number))
        return cache

    def free_bytes(self, own: int) -> int:
        """The least memory that is free to a rank; `own` bytes are to this one."""
        self._tell(Measure())
        with mx.stream(self._stream):
            return least(own, self._group)

    def _tell(self, order: Order) -> None:
        try:
            self._followers.send([*self._book.take(), order])
        except OSError as error:
            raise self._lost(f"a rank can't be told what to do: {one_line(error)}") from error

    def _lost(self, reason: str) -> GroupLost:
        self._followers.lost(reason)
        return GroupLost(reason)


def compute(model: Any, tokens: mx.array, cache: list[Any] | None, *, reads: bool) -> mx.array | None:
    """Begin to compute a rank's part: the logits [B, T, V], or with `reads` what tokens [B, T] leave in the cache."""
    logits: mx.array = model(tokens, cache=cache)
    if not reads:
        mx.async_eval(logits)
        return logits
    mx.eval([layer.state for layer in cache or ()])
    return None


def shared(tokens: mx.array, group: mx.distributed.Group) -> mx.array:
    """Rank 0's tokens int32 [B, T] on every rank; the others pass zeros. Begun at once: of a pipeline's ranks, those
    that get hidden states have no other use for them."""
    found = mx.distributed.all_sum(tokens.astype(mx.int32), group=group)
    mx.async_eval(found)
    return found


def least(own: int, group: mx.distributed.Group) -> int:
    """The least number that a rank passes."""
    found: int = mx.distributed.all_min(mx.array(own, mx.int64), group=group).item()  # type: ignore[assignment]
    return found
