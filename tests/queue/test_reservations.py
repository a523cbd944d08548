"""Refused clients that come back when they were told to, while others keep coming."""

from __future__ import annotations

import contextlib
import random

import pytest
from support.running.clock import FakeClock
from support.running.queues import Harness, TimedWorker, request

from mlx_server.queue.account import Priority
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.errors import QueueFull
from mlx_server.queue.reservations import GRACE_S, MOST, TOGETHER_S, Reservations, Returning

COME_BACK = 0.9
CALM_S = 5.0


def who(number: int) -> Returning:
    return "owner", number


@pytest.mark.parametrize(
    ("times", "rate", "together"),
    [pytest.param(2, 32.0, False), pytest.param(20, 32.0, False), pytest.param(20, 8.0, True, id="rows-end-together")],
)
def test_who_comes_back_in_time_is_served_while_newcomers_keep_coming(times: int, rate: float, together: bool) -> None:
    clock, rnd = FakeClock(), random.Random(times)
    worker = TimedWorker(clock, lambda: 16 / rate if together else rnd.expovariate(rate / 16))
    worker.queue = queue = Dispatcher(clock, queue_size=32, concurrency=16, timeout_s=1e9)
    worker.slots = queue.add_slots(worker)
    queue.worker_ready(worker.slots, 16)
    back: list[bool] = []
    seconds = 960 / rate

    def arrive(number: int, *, first: bool = True) -> None:
        try:
            queue.submit(request(), whole=False, who=who(number))
        except QueueFull as refused:
            if first and clock.time() + refused.retry_after_s < seconds:
                clock.call_at(clock.time() + refused.retry_after_s, lambda: arrive(number, first=False))
            accepted = False
        else:
            accepted = True
        if not first:
            back.append(accepted)

    at, number = 0.0, 0
    while at < seconds:
        at += rnd.expovariate(rate * (times if at > CALM_S else 0.5))
        clock.call_at(at, arrive, number := number + 1)
    clock.run()
    assert len(back) > 300
    assert sum(back) >= COME_BACK * len(back)
    assert queue.statistics.served >= 0.9 * rate * (seconds - CALM_S)


def test_places_are_kept_of_half_the_queue_and_only_for_those_that_are_due() -> None:
    harness = Harness(queue_size=4, concurrency=1)
    lives = [harness.queue.submit(request(), whole=False) for _ in range(5)]
    told = []
    for number in range(4):
        with pytest.raises(QueueFull) as refused:
            harness.queue.submit(request(), whole=False, who=who(number))
        told.append(refused.value.retry_after_s)
    harness.clock.advance(told[2])
    harness.queue.cancel(lives[0])
    with pytest.raises(QueueFull):
        harness.queue.submit(request(), whole=False, who=who(99))
    harness.queue.submit(request(), whole=False, who=who(2))
    harness.clock.advance(max(told) + GRACE_S + 1)
    harness.queue.cancel(lives[1])
    harness.queue.submit(request(), whole=False, who=who(100))


def test_only_so_many_are_expected_and_who_did_not_come_is_forgotten() -> None:
    expected = Reservations()
    for number in range(MOST + 1):
        expected.expect(who(number), 1.0, 0.0)
    assert expected.is_due(who(MOST - 1), 2.0)
    assert not expected.is_due(who(MOST), 2.0)
    assert not expected.is_due(who(0), 0.5)
    assert expected.due(2.0, 16) == 16
    assert expected.due(2.0 + GRACE_S, 16) == 0
    expected.expect(who(MOST), 9.0, 2.0)
    assert expected.is_due(who(MOST), 9.0)


def test_who_does_not_wait_is_told_the_same_time_and_equal_requests_that_come_together_others() -> None:
    expected = Reservations()
    assert expected.too_early(who(1), 0.0) is None
    expected.expect(who(1), 5.0, 0.0)
    assert expected.too_early(who(1), 0.9 * TOGETHER_S) is None
    expected.expect(who(1), 6.0, 0.9 * TOGETHER_S)
    assert expected.too_early(who(1), TOGETHER_S) == 6.0
    assert expected.too_early(who(2), TOGETHER_S) is None
    assert expected.too_early(who(1), 6.0) is None, "its time has come"
    expected.expect(who(1), 9.0, 6.0)
    assert expected.too_early(who(1), 6.0) is None
    assert expected.too_early(who(1), 8.0) == 9.0


def told_after_a_minute(*, eager: bool) -> int:
    """What Retry-After says where newcomers keep a queue full, and one client comes again four times a second."""
    clock = FakeClock()
    worker = TimedWorker(clock, lambda: 5.0)
    worker.queue = queue = Dispatcher(clock, queue_size=100, concurrency=8, timeout_s=1e9)
    worker.slots = queue.add_slots(worker)
    queue.worker_ready(worker.slots, 8)

    def ask(number: int) -> int:
        try:
            queue.submit(request(), whole=False, who=who(number))
        except QueueFull as refused:
            return refused.retry_after_s
        return 0

    def fill(places: int) -> None:
        with contextlib.suppress(QueueFull):
            while queue.urgent < places:
                queue.submit(request(), whole=False)

    fill(queue.capacity)
    for _ in range(240):
        clock.advance(0.25)
        fill(queue.capacity - eager)  # the last place is kept for who was told to come, and newcomers refused it
        if eager:
            ask(7)
    return ask(2)


def test_who_comes_too_early_again_and_again_makes_nobody_else_wait_longer() -> None:
    assert told_after_a_minute(eager=False) == 2
    assert told_after_a_minute(eager=True) <= 4


def told(queue: Dispatcher, number: int, priority: Priority = Priority.NORMAL) -> int:
    """What Retry-After says to a request; 0 where there is a place."""
    try:
        queue.check_capacity(priority=priority, who=who(number))
    except QueueFull as refused:
        return refused.retry_after_s
    return 0


@pytest.mark.parametrize("idle", [0, 50])
def test_idle_requests_that_are_refused_put_nobody_off_and_get_no_place(idle: int) -> None:
    harness = Harness(queue_size=4, concurrency=1)
    lives = [harness.queue.submit(request(), whole=False) for _ in range(5)]
    assert {told(harness.queue, 100 + number, Priority.IDLE) for number in range(idle)} <= {1}
    assert told(harness.queue, 1) == 12
    assert told(harness.queue, 100, Priority.IDLE) == 1
    assert harness.queue.statistics.refused == 1
    harness.clock.advance(12)
    harness.queue.cancel(lives[0])
    harness.queue.cancel(lives[1])
    assert told(harness.queue, 2) == 0, "one place is kept, for who was told to come"
    assert told(harness.queue, 1) == 0
