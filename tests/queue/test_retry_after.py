"""Refused clients that obey Retry-After, on the fake clock: they come back at exactly that time."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from functools import partial

import pytest
from support.running.clock import FakeClock
from support.running.queues import Harness, TimedWorker, request

from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.errors import QueueFull
from mlx_server.queue.policy import LONGEST_PROMISE_S, UNMEASURED_SERVICE_S
from mlx_server.queue.reservations import Returning

SERVED_AT_NEXT_TRY = 0.9
SEEDS = range(12)
WARM_UP = 50

# (queue size, concurrency, clients refused at once)
SMALL, LARGE = (2, 1, 47), (100, 8, 1000)


def obedient_share(
    sizes: tuple[int, int, int],
    service_s: Callable[[], float],
    *,
    measured: bool = True,
    spread_s: float = 0.0,
    who: Returning | None = None,
) -> float:
    """Of the clients that were refused, how many were accepted at their next try."""
    queue_size, concurrency, refused = sizes
    clock = FakeClock()
    worker = TimedWorker(clock, service_s)
    worker.queue = queue = Dispatcher(clock, queue_size=queue_size, concurrency=concurrency, timeout_s=1e9)
    worker.slots = queue.add_slots(worker)
    queue.worker_ready(worker.slots, concurrency)
    for _ in range(WARM_UP if measured else 0):
        queue.submit(request(), whole=False)
        while queue.live == concurrency:
            clock.advance(0.01)
    clock.advance(1000)
    next_tries: list[bool] = []

    def arrive(tries: int) -> None:
        try:
            queue.submit(request(), whole=False, who=who)
            accepted = True
        except QueueFull as error:
            accepted = False
            clock.call_at(clock.time() + error.retry_after_s, arrive, tries + 1)
        if tries == 1:
            next_tries.append(accepted)

    clients = queue_size + concurrency + refused
    for number in range(clients):
        clock.call_at(clock.time() + spread_s * number / clients, arrive, 0)
    clock.run()
    assert len(next_tries) >= refused * 0.5
    assert queue.statistics.served == clients + (WARM_UP if measured else 0)
    return sum(next_tries) / len(next_tries)


@pytest.mark.parametrize("mean_s", [0.02, 0.2, 1.0, 30.0])
@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
def test_retry_after_is_worth_obeying_with_even_service_times(sizes: tuple[int, int, int], mean_s: float) -> None:
    assert obedient_share(sizes, lambda: mean_s) >= SERVED_AT_NEXT_TRY


@pytest.mark.parametrize(
    ("sizes", "mean_s"),
    [
        pytest.param(SMALL, 0.2, id="small-fast"),
        pytest.param(SMALL, 1.0, id="small"),
        pytest.param(SMALL, 30.0, id="small-slow"),
        pytest.param((0, 1, 30), 1.0, id="no-queue"),
        pytest.param((10, 4, 200), 1.0, id="medium"),
        pytest.param(LARGE, 0.2, id="large-fast"),
        pytest.param(LARGE, 10.0, id="large-slow"),
    ],
)
def test_retry_after_is_worth_obeying_with_random_service_times(sizes: tuple[int, int, int], mean_s: float) -> None:
    shares = []
    for seed in SEEDS:
        draw = partial(random.Random(seed).expovariate, 1 / mean_s)
        shares.append(obedient_share(sizes, draw))
    assert statistics.mean(shares) >= SERVED_AT_NEXT_TRY, [round(share, 2) for share in shares]


@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
def test_retry_after_is_worth_obeying_before_anything_was_measured(sizes: tuple[int, int, int]) -> None:
    assert obedient_share(sizes, lambda: UNMEASURED_SERVICE_S, measured=False) >= SERVED_AT_NEXT_TRY


def test_retry_after_is_worth_obeying_for_clients_that_come_within_a_second() -> None:
    assert obedient_share(SMALL, lambda: 1.0, spread_s=0.5) >= SERVED_AT_NEXT_TRY


@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
def test_retry_after_is_worth_obeying_for_clients_that_say_the_same(sizes: tuple[int, int, int]) -> None:
    same = "owner", 1
    assert obedient_share(sizes, lambda: 1.0, spread_s=0.5, who=same) >= SERVED_AT_NEXT_TRY


def test_retry_after_has_a_limit_however_many_do_not_obey() -> None:
    harness = Harness(queue_size=2, concurrency=1)
    for _ in range(20):
        served = harness.submit()
        harness.clock.advance(1)
        harness.finish(served)
    for _ in range(3):
        harness.submit()
    for _ in range(10_000):
        with pytest.raises(QueueFull) as caught:
            harness.submit()
    assert caught.value.retry_after_s == LONGEST_PROMISE_S
