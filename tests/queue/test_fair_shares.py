"""Keys share the rows of a queue, urgent requests come first, and limits of keys hold."""

import pytest
from support.running.queues import Harness, request

from mlx_server.queue.account import Account, KeyLimits, MinuteMeter, Priority
from mlx_server.queue.errors import LimitReached, QueueFull
from mlx_server.queue.policy import has_fair_place
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.messages import Prepared


def key(owner: str, **limits: int) -> Account:
    return Account(owner, KeyLimits(**limits), configured=True)


def submit(
    harness: Harness, account: Account, priority: Priority = Priority.NORMAL, rows: int = 1, count: int = 1
) -> list[Ticket]:
    return [harness.queue.submit(request(rows), whole=False, account=account, priority=priority) for _ in range(count)]


def served(harness: Harness, tickets: list[Ticket]) -> list[Ticket]:
    """Those tickets in the order in which they are served on one row."""
    order: list[Ticket] = []
    while running := [ticket for ticket in tickets if ticket.rows_held and not ticket.ended]:
        order += running
        harness.finish(running[0])
    return order


def test_a_greedy_key_takes_turns_with_the_others() -> None:
    harness = Harness(queue_size=20)
    greedy, modest = key("greedy"), key("modest")
    many = submit(harness, greedy, count=5)
    few = submit(harness, modest, count=2)
    assert served(harness, [*many, *few]) == [many[0], few[0], many[1], few[1], *many[2:]]


def test_on_several_rows_each_key_holds_as_many() -> None:
    harness = Harness(queue_size=40, concurrency=4)
    accounts = [key(name) for name in "ab"]
    tickets = [*submit(harness, accounts[0], count=12), *submit(harness, accounts[1], count=12)]
    for _ in range(6):
        harness.finish(next(ticket for ticket in tickets if ticket.rows_held))
        held = [sum(t.rows_held for t in tickets if t.account is account) for account in accounts]
    assert held == [2, 2]


def test_the_urgent_come_first_and_the_patient_last() -> None:
    harness = Harness(queue_size=20)
    account = key("one")
    [running] = submit(harness, account)
    idle, low, normal, high = (submit(harness, account, priority, count=2) for priority in reversed(Priority))
    assert served(harness, [running, *idle, *low, *normal, *high]) == [running, *high, *normal, *low, *idle]
    assert [harness.queue.position(ticket) for ticket in low] == [None, None]


def test_positions_are_those_of_the_order_of_service() -> None:
    harness = Harness(queue_size=20)
    submit(harness, key("a"))
    [patient] = submit(harness, key("a"), Priority.LOW)
    [urgent] = submit(harness, key("b"), Priority.HIGH)
    assert [harness.queue.position(ticket) for ticket in (urgent, patient)] == [1, 2]


def test_a_key_holds_no_more_rows_than_it_may_and_the_rest_are_others() -> None:
    harness = Harness(queue_size=20, concurrency=4)
    bounded, other = key("bounded", rows=2), key("other")
    several = submit(harness, bounded, rows=3)
    more = submit(harness, bounded, count=2)
    assert [ticket.rows_held for ticket in (*several, *more)] == [2, 0, 0]
    [free] = submit(harness, other)
    assert free.rows_held == 1
    harness.finish(several[0], 0)
    assert [ticket.rows_held for ticket in (*several, *more)] == [2, 0, 0]
    harness.finish(several[0], 1, 2)
    assert [ticket.rows_held for ticket in more] == [1, 1]


def test_a_full_queue_has_a_place_for_a_key_that_has_none() -> None:
    harness = Harness(queue_size=5, concurrency=1)
    greedy, modest = key("greedy"), key("modest")
    submit(harness, greedy, count=6)
    with pytest.raises(QueueFull):
        submit(harness, greedy)
    submit(harness, modest, count=3)
    with pytest.raises(QueueFull):
        submit(harness, modest)
    with pytest.raises(QueueFull):
        harness.queue.submit(request(), whole=False, account=Account("nobody knows"))


def test_more_keys_get_smaller_shares_of_a_full_queue_and_one_place_at_least() -> None:
    harness = Harness(queue_size=7, concurrency=1)
    for number in range(20):
        for _ in range(20):
            try:
                submit(harness, key(str(number)))
            except QueueFull:
                break
    assert harness.queue.live == 8 + 4 + 2 + 2 + 16
    assert has_fair_place(0, 3, 8)
    assert not has_fair_place(2, 4, 8)


def test_requests_a_minute_flow_back_evenly() -> None:
    harness = Harness(queue_size=100)
    account = key("one", requests_per_minute=6)
    submit(harness, account, count=6)
    with pytest.raises(LimitReached) as refused:
        submit(harness, account)
    assert refused.value.retry_after_s == 10
    assert str(refused.value) == "The limit of this key (6 requests a minute) is reached: come again in 10 s."
    harness.clock.advance(refused.value.retry_after_s)
    submit(harness, account)
    with pytest.raises(LimitReached):
        submit(harness, account)


def test_tokens_are_charged_when_a_request_ends_however_it_ends() -> None:
    harness = Harness(queue_size=100, concurrency=2)
    account = key("one", tokens_per_minute=60)
    done, left = submit(harness, account, count=2)
    harness.finish(done)  # 3 tokens read, 5 written
    harness.deliver([Prepared(left.id, 100)])
    harness.say(left, tokens=12)
    submit(harness, account)
    harness.queue.cancel(left)
    with pytest.raises(LimitReached) as refused:
        submit(harness, account)
    assert refused.value.retry_after_s == 61  # 120 of 60 are used, and one more is to fit
    harness.clock.advance(61)
    submit(harness, account)


def test_prompt_that_was_never_read_costs_no_tokens() -> None:
    harness = Harness(queue_size=100, concurrency=1)
    submit(harness, key("other"))
    account = key("one", tokens_per_minute=60)
    for _ in range(3):
        [waiting] = submit(harness, account)
        harness.deliver([Prepared(waiting.id, 100)])
        assert waiting.tokens_read == 100
        harness.queue.cancel(waiting)
    submit(harness, account)


def test_one_account_counts_in_all_queues() -> None:
    account = key("one", requests_per_minute=2)
    for _ in range(2):
        submit(Harness(), account)
    with pytest.raises(LimitReached):
        submit(Harness(), account)


def test_a_refused_request_is_not_counted() -> None:
    harness = Harness(queue_size=0)
    account = key("one", requests_per_minute=2)
    submit(harness, account)
    with pytest.raises(QueueFull):
        submit(harness, account)
    other = Harness()
    submit(other, account)


def test_a_higher_limit_holds_at_once() -> None:
    meter = MinuteMeter()
    meter.add(0.0, 10, 10)
    assert meter.wait_s(0.0, 10) == 6
    assert meter.wait_s(0.0, 20) == 0
