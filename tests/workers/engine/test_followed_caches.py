"""The caches of a rank that follows, beside those of rank 0: the same after everything that an engine does to them."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from support.engines import GREEDY, Player

from mlx_server.schemas.internal.generation import Limits
from mlx_server.workers.engine.decode.batch import BatchEngine
from mlx_server.workers.engine.kvcache.flatten import flat
from mlx_server.workers.engine.kvcache.prefix_store import PrefixStore
from mlx_server.workers.engine.ranks.followed import FollowedCache
from mlx_server.workers.engine.ranks.model import LeadingModel
from mlx_server.workers.engine.ranks.orders import Order, decode_orders, frame
from mlx_server.workers.engine.sequence import Sequence
from mlx_server.workers.errors import GroupLost
from mlx_server.workers.handlers.ranks import Follower

pytestmark = pytest.mark.model

ROWS = 4


class Beside:
    """A rank that follows in this process, in a group of one: its numbers differ, the shape of its caches must not."""

    def __init__(self, model: Any, group: mx.distributed.Group) -> None:
        self.rank = Follower(model, group)
        self.reasons: list[str] = []

    def send(self, orders: list[Order]) -> None:
        self.rank.follow(decode_orders(frame(orders)[4:]))

    def lost(self, reason: str) -> None:
        self.reasons.append(reason)


def shape(cache: list[Any]) -> list[Any]:
    """What a cache's layers hold, but for the numbers in them."""
    found = []
    for layer in flat(cache):
        arrays = [one for one in vars(layer).values() if isinstance(one, mx.array)]
        places = [vars(layer).get(name) for name in ("offset", "left_padding", "_idx", "_offset")]
        places = [one.tolist() if isinstance(one, mx.array) else one for one in places]
        found.append((type(layer), [one.shape for one in arrays], places))
    return found


def sequence(draw: random.Random, number: int) -> Sequence:
    beginning = [5 + number % 3] * 40
    prompt = beginning[: draw.choice((0, 20, 40))] + [draw.randrange(4, 60) for _ in range(draw.randrange(2, 40))]
    return Sequence((number, 0), prompt, draw.randrange(1, 30), GREEDY, Limits(ignore_eos=True))


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "qwen3_next"])
def test_caches_of_a_rank_that_follows_stay_like_those_of_rank_0(
    load_tiny: Callable[[str], Any], architecture: str
) -> None:
    model, group, draw = load_tiny(architecture), mx.distributed.init(), random.Random(1)
    beside = Beside(model, group)
    leading = LeadingModel(model, group, beside)
    prefixes = PrefixStore(1 << 20, checkpoints=True)
    engine = BatchEngine(leading, set(), rows=ROWS, joint_prefill=True, prefill_step_size=16, prefixes=prefixes)
    player, compared = Player(engine), 0
    for number in range(16):
        player.add(sequence(draw, number))
        for _ in range(draw.randrange(1, 12)):
            player.step()
        if number % 5 == 4:
            engine.remove((number - 1, 0))
        leading(mx.array([[0]]))  # the orders so far are sent with a call
        for cache in [one for one in gc.get_objects() if type(one) is FollowedCache]:
            assert shape(beside.rank.caches[cache.number]) == shape(cache)
            compared += 1
    assert compared > 50
    player.run()
    engine.close()
    del engine, player, prefixes, cache
    gc.collect()
    leading(mx.array([[0]]))
    assert beside.rank.caches == {}


def test_a_cache_that_the_others_do_not_have_is_refused(load_tiny: Callable[[str], Any]) -> None:
    model, group = load_tiny("llama"), mx.distributed.init()
    with pytest.raises(TypeError):
        LeadingModel(model, group, Beside(model, group))(mx.array([[1]]), cache=model.make_cache())


def test_a_failed_call_of_the_model_ends_the_group() -> None:
    group = mx.distributed.init()
    beside = Beside(lambda tokens, cache=None: tokens, group)

    def broken(tokens: mx.array, cache: Any = None) -> mx.array:
        raise ValueError("no numbers")

    with pytest.raises(GroupLost):
        LeadingModel(broken, group, beside)(mx.array([[1]]))
    assert beside.reasons == ["rank 0 failed: no numbers"]
