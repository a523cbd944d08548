import itertools

import pytest
from support.running.queues import request

from mlx_server.queue.mailbox import Mailbox
from mlx_server.queue.ticket import IllegalMoveError, Ticket, TicketState

WAITING, RUNNING, PARKED = TicketState.WAITING, TicketState.RUNNING, TicketState.PARKED
ENDS = (
    TicketState.SERVED,
    TicketState.FAILED,
    TicketState.INVALID,
    TicketState.TIMED_OUT,
    TicketState.CANCELLED,
)
LEGAL = {
    (WAITING, RUNNING),
    (WAITING, TicketState.FAILED),
    (WAITING, TicketState.INVALID),
    (WAITING, TicketState.TIMED_OUT),
    (WAITING, TicketState.CANCELLED),
    (RUNNING, WAITING),
    (RUNNING, PARKED),
    (PARKED, WAITING),
    (PARKED, RUNNING),
    *((lives, end) for lives in (RUNNING, PARKED) for end in ENDS),
}
ROUTES: dict[TicketState, tuple[TicketState, ...]] = {
    WAITING: (),
    RUNNING: (RUNNING,),
    PARKED: (RUNNING, PARKED),
    **{end: (RUNNING, end) for end in ENDS},
}


def _ticket(rows: int = 1) -> Ticket:
    return Ticket(7, request(rows), Mailbox(whole=False), now=10.0, timeout_s=5.0)


def _in(state: TicketState) -> Ticket:
    ticket = _ticket()
    for step in ROUTES[state]:
        ticket.move(step)
    return ticket


@pytest.mark.parametrize(("before", "after"), list(itertools.product(TicketState, TicketState)), ids=lambda s: s.value)
def test_move_follows_the_table(before: TicketState, after: TicketState) -> None:
    ticket = _in(before)
    if (before, after) in LEGAL:
        ticket.move(after)
        assert ticket.state is after
    else:
        with pytest.raises(IllegalMoveError, match=f"ticket 7: {before.value} -> {after.value}"):
            ticket.move(after)
        assert ticket.state is before


@pytest.mark.parametrize("state", list(TicketState), ids=lambda s: s.value)
def test_move_closes_the_mailbox_exactly_at_an_end(state: TicketState) -> None:
    ticket = _in(state)
    assert ticket.ended == (state in ENDS)
    assert ticket.mailbox.closed == (state in ENDS)


def test_ticket_has_a_deadline_for_its_whole_time() -> None:
    assert _ticket().deadline == 15.0


def test_grant_starts_the_ticket_once_and_counts_rows() -> None:
    ticket = _ticket(rows=5)
    assert (ticket.rows_missing, ticket.rows_held) == (5, 0)
    ticket.grant(2, now=11.0)
    ticket.grant(1, now=12.0)
    assert (ticket.state, ticket.started_at) == (RUNNING, 11.0)
    assert (ticket.rows_missing, ticket.rows_held) == (2, 3)
    ticket.rows_done += 2
    assert (ticket.rows_missing, ticket.rows_held) == (2, 1)


@pytest.mark.parametrize("end", ENDS, ids=lambda s: s.value)
def test_an_ended_ticket_holds_no_rows(end: TicketState) -> None:
    ticket = _ticket(rows=3)
    ticket.grant(2, now=11.0)
    ticket.move(end)
    assert ticket.rows_held == 0


def test_start_over_forgets_all_but_the_replay() -> None:
    ticket = _ticket(rows=3)
    ticket.grant(2, now=11.0)
    ticket.rows_done = 1
    ticket.last_text_at = 12.0
    ticket.start_over(died=True)
    assert (ticket.state, ticket.replays) == (WAITING, 1)
    assert (ticket.rows_missing, ticket.rows_held) == (3, 0)
    assert (ticket.started_at, ticket.last_text_at) == (None, {})
    assert (ticket.submitted_at, ticket.deadline) == (10.0, 15.0)
