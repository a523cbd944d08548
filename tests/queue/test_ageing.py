"""Nobody waits for ever: who waits becomes more urgent with time, and keys that come later don't come first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.running.queues import Harness, request

from mlx_server.queue.account import Account, Priority
from mlx_server.queue.policy import AGEING_S, urgency
from mlx_server.queue.ticket import Ticket

QUEUE, SERVICE_S, PATIENT = 8, 1.0, 6
WAIT_S = Priority.LOW * AGEING_S + (QUEUE + 1) * PATIENT * SERVICE_S
"""The longest that one of so many patient requests can wait: until it is as urgent as any, and then in turns with the
other keys of a full queue behind the others of its own."""


@pytest.mark.parametrize(
    ("priority", "waited_s", "expected"),
    [
        (Priority.LOW, 0.0, Priority.LOW),
        (Priority.LOW, AGEING_S - 0.1, Priority.LOW),
        (Priority.LOW, AGEING_S, Priority.NORMAL),
        (Priority.LOW, 2 * AGEING_S, Priority.HIGH),
        (Priority.NORMAL, AGEING_S, Priority.HIGH),
        (Priority.NORMAL, 100 * AGEING_S, Priority.HIGH),
        (Priority.HIGH, 0.0, Priority.HIGH),
        (Priority.IDLE, 100 * AGEING_S, Priority.IDLE),
    ],
)
def test_a_request_is_more_urgent_the_longer_it_waits(priority: Priority, waited_s: float, expected: Priority) -> None:
    assert urgency(priority, waited_s) is expected


class Flood:
    """A queue with one row, served one request a second, that urgent requests fill up again at once."""

    def __init__(self) -> None:
        self.harness = Harness(queue_size=QUEUE, timeout_s=10 * WAIT_S)
        self.tickets: list[Ticket] = []

    def submit(self, owner: str, priority: Priority) -> Ticket:
        """One more, of a key that the operator doesn't know."""
        ticket = self.harness.queue.submit(request(), whole=False, account=Account(owner), priority=priority)
        self.tickets.append(ticket)
        return ticket

    def second(self, owner: str) -> None:
        """One is served, and a key sends urgent requests until the queue is full."""
        queue = self.harness.queue
        while queue.live < queue.capacity:
            self.submit(owner, Priority.HIGH)
        self.harness.clock.advance(SERVICE_S)
        [running] = [ticket for ticket in queue.tickets if ticket.rows_held]
        self.harness.finish(running)

    def waited_s(self, ticket: Ticket) -> float:
        """How long it took until it got its row; fails if it has none."""
        assert ticket.started_at is not None, ticket
        return ticket.started_at - ticket.submitted_at


@settings(max_examples=40, deadline=None)
@given(
    patient=st.lists(st.sampled_from([Priority.NORMAL, Priority.LOW]), min_size=1, max_size=PATIENT),
    flooders=st.lists(st.sampled_from(["one", "a", "b", "new"]), min_size=1, max_size=5),
)
def test_no_request_waits_longer_than_the_bound_however_many_urgent_ones_come(
    patient: list[Priority], flooders: list[str]
) -> None:
    flood = Flood()
    waiting = [flood.submit("one", priority) for priority in patient]
    for second in range(int(WAIT_S / SERVICE_S) + 1):
        owner = flooders[second % len(flooders)]
        flood.second(f"{owner} {second}" if owner == "new" else owner)
    assert max(map(flood.waited_s, waiting)) <= WAIT_S


def test_urgent_requests_still_come_before_patient_ones_that_have_just_come() -> None:
    flood = Flood()
    flood.second("a")
    patient = flood.submit("b", Priority.LOW)
    for _ in range(int(AGEING_S / SERVICE_S)):
        flood.second("a")
    assert patient.started_at is None


def test_keys_that_are_new_do_not_come_before_one_that_has_waited() -> None:
    flood = Flood()
    flood.submit("known", Priority.HIGH)
    flood.second("other")
    flood.second("other")
    ticket = flood.submit("known", Priority.HIGH)
    for number in range(QUEUE + 1):
        flood.second(f"new {number}")
    assert flood.waited_s(ticket) <= (QUEUE + 1) * SERVICE_S
