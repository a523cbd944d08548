"""The line of loads that wait for room."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial

import pytest

from mlx_server.app.fleet.ledger import Evict, Fits, Never, Plan, Wait
from mlx_server.app.fleet.load_order import MOST_PASSES, LoadOrder, PendingLoad

NOW = datetime(2025, 1, 4, tzinfo=UTC)


def line_of(**priorities: int) -> LoadOrder:
    order = LoadOrder()
    for name, priority in priorities.items():
        order.add(name, 1, priority, NOW)
    return order


def names(order: LoadOrder) -> list[str]:
    return [load.name for load in order.waiting]


def plan_with(free: int, load: PendingLoad) -> Plan:
    return Fits() if load.required_bytes <= free else Wait()


def choose(order: LoadOrder, plans: dict[str, Plan]) -> tuple[str, Plan] | None:
    found = order.next(lambda load: plans[load.name])
    return (found[0].name, found[1]) if found else None


def test_first_come_is_first_served_within_a_priority() -> None:
    order = line_of(a=0, b=5, c=0, d=5, e=-1)
    assert names(order) == ["b", "d", "a", "c", "e"]
    assert [load.position for load in order.waiting] == [0, 1, 2, 3, 4]


def test_priority_may_change_while_a_load_waits() -> None:
    order = line_of(a=0, b=0, c=0)
    assert order.set_priority("c", 1)
    assert names(order) == ["c", "a", "b"]
    assert order.set_priority("c", -1)
    assert names(order) == ["a", "b", "c"]
    assert not order.set_priority("nobody", 1)


def test_load_that_gives_up_leaves_the_line() -> None:
    order = line_of(a=0, b=0)
    load = order.pending[0]
    order.remove(load)
    order.remove(load)
    assert names(order) == ["b"]
    assert len(order) == 1


@pytest.mark.parametrize(
    ("plans", "chosen"),
    [
        ({"a": Fits(), "b": Fits()}, ("a", Fits())),
        ({"a": Wait(), "b": Fits()}, ("b", Fits())),
        ({"a": Wait(), "b": Never(1, 2)}, ("b", Never(1, 2))),
        # Room that is being made for the first is not for others.
        ({"a": Evict(("x",)), "b": Fits()}, ("a", Evict(("x",)))),
        ({"a": Wait(), "b": Evict(("x",))}, ("a", Wait())),
        ({"a": Wait(), "b": Wait()}, ("a", Wait())),
    ],
)
def test_first_is_passed_only_by_one_that_fits_while_it_waits(plans: dict[str, Plan], chosen: tuple[str, Plan]) -> None:
    assert choose(line_of(a=0, b=0), plans) == chosen


def test_nobody_is_next_in_an_empty_line() -> None:
    assert choose(LoadOrder(), {}) is None


def test_small_loads_may_not_pass_a_big_one_for_ever() -> None:
    order = line_of(big=0)
    for number in range(MOST_PASSES):
        order.add(f"small{number}", 1, 0, NOW)
        found = order.next(lambda load: Wait() if load.name == "big" else Fits())
        assert found is not None
        assert found[0].name == f"small{number}"
        order.admit(found[0])
    order.add("another", 1, 0, NOW)
    assert choose(order, {"big": Wait(), "another": Fits()}) == ("big", Wait())


def test_urgent_loads_may_not_pass_one_for_ever() -> None:
    order = line_of(patient=0)
    for _ in range(MOST_PASSES):
        order.admit(order.add("urgent", 1, 100, NOW))
    order.add("urgent", 1, 100, NOW)
    assert names(order) == ["patient", "urgent"]
    order.set_priority("patient", -100)
    assert names(order) == ["patient", "urgent"]


def test_load_that_can_never_be_is_told_though_another_is_overdue() -> None:
    order = line_of(a=0, b=1, c=0)
    order.pending[1].passed = MOST_PASSES - 1
    assert choose(order, {"a": Wait(), "b": Wait(), "c": Never(1, 2)}) == ("c", Never(1, 2))


@pytest.mark.parametrize("seed", range(20))
def test_no_load_starves_whatever_comes_later(seed: int) -> None:
    """At each step room for a random size is free; no load is passed more often than is allowed."""
    pick = random.Random(seed)
    order = LoadOrder()
    later: dict[PendingLoad, int] = {}
    for step in range(500):
        if pick.random() < 0.6 or not len(order):
            later[order.add(f"m{step}", pick.randint(1, 10), pick.choice([0, 0, 1, 9, -3]), NOW)] = 0
        if pick.random() < 0.2:
            order.set_priority(pick.choice(order.pending).name, pick.randint(-5, 5))
        found = order.next(partial(plan_with, pick.randint(1, 10)))
        assert found is not None
        load, plan = found
        if isinstance(plan, Wait):
            continue
        order.admit(load)
        del later[load]
        for other in later:
            later[other] += other.number < load.number
            assert later[other] <= MOST_PASSES
