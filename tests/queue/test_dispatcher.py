import traceback
from collections.abc import Callable

import pytest
from support.running.queues import Harness, failures_of, read, text_of

from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.internal.messages import (
    Failed,
    FailureKind,
    Finished,
    Prepared,
    Progress,
    Reasoning,
    Score,
    Started,
    StepEvent,
    Text,
    ToolCall,
    Vector,
)


def _states(*tickets: Ticket) -> list[str]:
    return [ticket.state.value for ticket in tickets]


def _refusal(harness: Harness) -> QueueFull:
    with pytest.raises(QueueFull) as caught:
        harness.submit()
    return caught.value


@pytest.mark.parametrize("ready_rows", [0, 1], ids=["while-loading", "ready"])
def test_submit_accepts_exactly_queue_size_and_concurrency(ready_rows: int) -> None:
    harness = Harness(queue_size=2, concurrency=1, ready_rows=ready_rows)
    accepted, refused = [], []
    for _ in range(50):
        try:
            accepted.append(harness.submit())
        except QueueFull as error:
            refused.append(error)
    assert (len(accepted), len(refused)) == (3, 47)
    assert {str(error) for error in refused} == {"Too many requests. Service is at capacity."}
    assert (harness.queue.live, harness.queue.waiting, harness.queue.running) == (3, 3 - ready_rows, ready_rows)
    assert harness.queue.statistics.refused == 47


def test_submit_counts_requests_and_not_rows() -> None:
    harness = Harness(queue_size=1, concurrency=1)
    harness.submit(rows=16)
    harness.submit(rows=16)
    _refusal(harness)


def test_submit_takes_none_but_the_first_with_a_queue_of_zero() -> None:
    harness = Harness(queue_size=0, concurrency=1)
    first = harness.submit()
    _refusal(harness)
    harness.finish(first)
    harness.submit()


def test_a_refused_client_is_told_later_than_the_one_before() -> None:
    harness = Harness(queue_size=2, concurrency=1)
    for _ in range(3):
        harness.submit()
    told = [_refusal(harness).retry_after_s for _ in range(20)]
    assert told == sorted(set(told))


def test_turn_is_not_guessed_before_a_request_has_ended() -> None:
    harness = Harness(concurrency=1)
    tickets = [harness.submit() for _ in range(3)]
    harness.clock.advance(60)
    assert harness.queue.eta_s(1) is None
    harness.finish(tickets[0])
    assert [harness.queue.eta_s(position) for position in (1, 2)] == [60.0, 120.0]
    harness.lose("gone")
    assert harness.queue.eta_s(1) is None


def test_requests_get_rows_in_order_of_arrival() -> None:
    harness = Harness(concurrency=2)
    tickets = [harness.submit() for _ in range(5)]
    assert _states(*tickets) == ["running"] * 2 + ["waiting"] * 3
    for done in range(3):
        harness.finish(tickets[done])
        started = [ticket for ticket in tickets if ticket.started_at is not None]
        assert started == tickets[: done + 3]


def test_a_waiting_request_is_prepared_before_it_has_a_row() -> None:
    harness = Harness(concurrency=1)
    first, second = harness.submit(), harness.submit()
    assert harness.worker.take() == [("submit", first.id, 1), ("submit", second.id, 0)]
    harness.finish(first)
    assert harness.worker.take() == [("grant", second.id, 1)]


def test_nothing_is_sent_to_a_worker_that_is_not_ready() -> None:
    harness = Harness(concurrency=2, ready_rows=0)
    tickets = [harness.submit() for _ in range(3)]
    assert harness.worker.take() == []
    harness.ready(2)
    assert harness.worker.take() == [
        ("submit", tickets[0].id, 1),
        ("submit", tickets[1].id, 1),
        ("submit", tickets[2].id, 0),
    ]


def test_a_worker_may_grant_fewer_rows_than_the_concurrency() -> None:
    harness = Harness(queue_size=2, concurrency=8, ready_rows=1)
    tickets = [harness.submit() for _ in range(3)]
    _refusal(harness)
    assert (harness.queue.running, harness.queue.waiting) == (1, 2)
    harness.finish(tickets[0])
    assert (harness.queue.running, harness.queue.waiting) == (1, 1)


def test_idle_is_set_while_no_request_lives() -> None:
    harness = Harness()
    assert harness.queue.idle.is_set()
    first, second = harness.submit(), harness.submit()
    harness.finish(first)
    assert not harness.queue.idle.is_set()
    harness.queue.cancel(second)
    assert harness.queue.idle.is_set()


def test_oldest_wait_is_that_of_the_first_in_line() -> None:
    harness = Harness(concurrency=1)
    assert harness.queue.oldest_wait_s == 0.0
    running = harness.submit()
    harness.clock.advance(5)
    harness.submit()
    harness.clock.advance(3)
    harness.submit()
    assert harness.queue.oldest_wait_s == 3.0
    harness.finish(running)
    assert harness.queue.oldest_wait_s == 0.0


@pytest.mark.parametrize("ready_rows", [0, 1], ids=["while-loading", "ready"])
def test_cancel_gives_a_waiting_place_back_at_once(ready_rows: int) -> None:
    harness = Harness(queue_size=2, concurrency=1, ready_rows=ready_rows)
    tickets = [harness.submit() for _ in range(3)]
    _refusal(harness)
    harness.queue.cancel(tickets[1])
    assert harness.queue.live == 2
    assert tickets[1].state is TicketState.CANCELLED
    assert read(tickets[1].mailbox) == []
    assert (("cancel", tickets[1].id) in harness.worker.take()) is bool(ready_rows)
    newcomer = harness.submit()
    _refusal(harness)
    harness.ready(1)
    for ticket in (tickets[0], tickets[2], newcomer):
        harness.finish(ticket)
    assert _states(*tickets, newcomer) == ["served", "cancelled", "served", "served"]


def test_cancel_gives_a_running_row_to_the_next_in_line() -> None:
    harness = Harness(concurrency=1)
    first, second = harness.submit(), harness.submit()
    harness.worker.take()
    harness.queue.cancel(first)
    assert harness.worker.take() == [("cancel", first.id), ("grant", second.id, 1)]
    assert (harness.queue.rows_used, second.state) == (1, TicketState.RUNNING)


def test_cancel_is_idempotent() -> None:
    harness = Harness()
    ticket = harness.submit()
    harness.queue.cancel(ticket)
    harness.queue.cancel(ticket)
    served = harness.submit()
    harness.finish(served)
    harness.worker.take()
    harness.queue.cancel(served)
    assert harness.worker.take() == []
    assert harness.queue.statistics.cancelled == 1
    assert served.state is TicketState.SERVED


def test_timeout_ends_waiting_and_running_requests_and_stops_their_work() -> None:
    harness = Harness(concurrency=1, timeout_s=300.0)
    running, waiting = harness.submit(), harness.submit()
    harness.clock.advance(1)
    later = harness.submit()
    harness.worker.take()
    harness.clock.advance(298.9)
    assert _states(running, waiting, later) == ["running", "waiting", "waiting"]
    harness.clock.advance(0.1)
    assert _states(running, waiting, later) == ["timed_out", "timed_out", "running"]
    calls = harness.worker.take()
    assert ("cancel", running.id) in calls
    assert ("cancel", waiting.id) in calls
    for ticket in (running, waiting):
        [failed] = read(ticket.mailbox)
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.TIMEOUT
        assert failed.message == "Request processing timed out after 300 seconds without a token (--queue-timeout)"
    assert harness.queue.statistics.timed_out == 2


def test_timeout_gives_a_waiting_place_back_at_once() -> None:
    harness = Harness(queue_size=1, concurrency=1, timeout_s=10.0)
    harness.submit()
    harness.clock.advance(5)
    harness.submit()
    harness.clock.advance(5)
    harness.submit()
    assert harness.queue.live == 2


def test_timeout_message_has_no_needless_decimals() -> None:
    harness = Harness(timeout_s=2.5)
    ticket = harness.submit()
    harness.clock.advance(2.5)
    [failed] = read(ticket.mailbox)
    assert isinstance(failed, Failed)
    assert failed.message == "Request processing timed out after 2.5 seconds without a token (--queue-timeout)"


@pytest.mark.parametrize(
    "progress",
    [
        lambda ticket, index: Text(ticket.id, 0, "x", 1),
        lambda ticket, index: Text(ticket.id, 0, "", 64),
        lambda ticket, index: Reasoning(ticket.id, 1, "hm", 1),
        lambda ticket, index: ToolCall(ticket.id, 1, 0, "{", 1),
        lambda ticket, index: Vector(ticket.id, index, b""),
        lambda ticket, index: Score(ticket.id, index, 0.5),
        lambda ticket, index: Finished(ticket.id, index, "stop", 1, 0, 1),
    ],
    ids=["text", "only-a-count", "reasoning", "call", "vector", "score", "a-choice"],
)
@pytest.mark.parametrize("whole", [False, True])
def test_timeout_counts_from_the_last_progress(progress: Callable[[Ticket, int], StepEvent], whole: bool) -> None:
    harness = Harness(concurrency=8, timeout_s=10.0)
    ticket = harness.submit(rows=6, whole=whole)
    for index in range(5):
        harness.clock.advance(9)
        harness.deliver([progress(ticket, index)])
        assert harness.clock.pending == 1
    harness.clock.advance(9.9)
    assert ticket.state is TicketState.RUNNING
    harness.clock.advance(0.1)
    assert ticket.state is TicketState.TIMED_OUT


@pytest.mark.parametrize(
    "event",
    [lambda id_: Prepared(id_, 9), lambda id_: Started(id_, 0, 9, 0), lambda id_: Progress(id_, 5)],
    ids=["prepared", "started", "progress"],
)
def test_timeout_until_the_first_token_is_not_moved_by_the_prompt(event: Callable[[int], StepEvent]) -> None:
    harness = Harness(timeout_s=10.0)
    ticket = harness.submit()
    harness.clock.advance(9)
    harness.deliver([event(ticket.id)])
    harness.clock.advance(1)
    assert ticket.state is TicketState.TIMED_OUT


def test_request_limit_ends_what_makes_progress() -> None:
    harness = Harness(timeout_s=10.0, limit_s=25.0)
    ticket = harness.submit()
    for _ in range(4):
        harness.clock.advance(6)
        harness.say(ticket)
    harness.clock.advance(1)
    assert ticket.state is TicketState.TIMED_OUT
    failed = read(ticket.mailbox)[-1]
    assert isinstance(failed, Failed)
    assert failed.message == "Request processing timed out after 25 seconds in all (--request-timeout)"


def test_a_replayed_answer_keeps_the_time_that_its_progress_gave() -> None:
    harness = Harness(timeout_s=10.0)
    ticket = harness.submit(whole=True)
    harness.clock.advance(9)
    harness.say(ticket)
    harness.clock.advance(5)
    harness.lose("it died")
    harness.ready(1)
    harness.clock.advance(4.9)
    assert ticket.state is TicketState.RUNNING
    harness.clock.advance(0.1)
    assert ticket.state is TicketState.TIMED_OUT


def test_place_counts_those_that_have_no_row_yet() -> None:
    harness = Harness(concurrency=1)
    tickets = [harness.submit() for _ in range(4)]
    assert [harness.queue.position(ticket) for ticket in tickets] == [None, 1, 2, 3]
    harness.queue.cancel(tickets[1])
    assert [harness.queue.position(ticket) for ticket in tickets] == [None, None, 1, 2]


def test_progress_is_known_until_the_worker_is_lost() -> None:
    harness = Harness()
    ticket = harness.submit()
    harness.deliver([Progress(ticket.id, 5)])
    assert ticket.progress == Progress(ticket.id, 5)
    harness.lose("it died")
    assert ticket.progress is None


def test_timers_of_ended_requests_are_taken_back() -> None:
    harness = Harness(concurrency=2)
    served, cancelled, failed = harness.submit(), harness.submit(), harness.submit()
    harness.finish(served)
    harness.queue.cancel(cancelled)
    harness.fail(failed)
    assert harness.clock.pending == 0


def test_a_request_larger_than_the_credits_runs_in_turns() -> None:
    harness = Harness(concurrency=8)
    ticket = harness.submit(rows=16)
    assert harness.worker.take() == [("submit", ticket.id, 8)]
    assert harness.queue.rows_used == 8
    for index in range(16):
        harness.finish(ticket, index)
        assert harness.queue.rows_used == min(8, 15 - index)
    assert harness.worker.take() == [("grant", ticket.id, 1)] * 8
    assert ticket.state is TicketState.SERVED
    assert sum(isinstance(event, Finished) for event in read(ticket.mailbox)) == 16


def test_many_large_requests_share_few_rows_without_deadlock() -> None:
    harness = Harness(concurrency=3)
    tickets = [harness.submit(rows=rows) for rows in (5, 2, 7, 1, 16)]
    granted = {ticket.id: 0 for ticket in tickets}
    finished = dict(granted)
    for _ in range(31):
        for name, number, *rows in harness.worker.take():
            assert name in ("submit", "grant")
            granted[number] += rows[0]
        assert sum(granted.values()) - sum(finished.values()) == harness.queue.rows_used <= 3
        ticket = next(ticket for ticket in tickets if granted[ticket.id] > finished[ticket.id])
        harness.finish(ticket, finished[ticket.id])
        finished[ticket.id] += 1
    assert _states(*tickets) == ["served"] * 5
    assert (harness.queue.rows_used, harness.queue.live) == (0, 0)


def test_the_first_in_line_takes_the_rows_that_are_left() -> None:
    harness = Harness(concurrency=4)
    harness.submit(rows=3)
    split = harness.submit(rows=2)
    last = harness.submit()
    assert (split.state, split.rows_held, last.state) == (TicketState.RUNNING, 1, TicketState.WAITING)
    assert harness.worker.take()[1:] == [("submit", split.id, 1), ("submit", last.id, 0)]


def test_cancel_of_a_large_request_frees_all_its_rows() -> None:
    harness = Harness(concurrency=4)
    large = harness.submit(rows=16)
    harness.finish(large, 0, 1)
    waiting = [harness.submit() for _ in range(4)]
    harness.queue.cancel(large)
    assert _states(*waiting) == ["running"] * 4
    assert harness.queue.rows_used == 4


def test_deliver_routes_every_part_of_an_answer() -> None:
    harness = Harness()
    ticket = harness.submit(whole=False)
    parts = [
        Reasoning(ticket.id, 0, "so", 1),
        Text(ticket.id, 0, "hi", 2),
        ToolCall(ticket.id, 0, 0, "{}", 3, "c", "f"),
    ]
    harness.deliver([*parts])
    assert read(ticket.mailbox) == parts
    assert harness.queue.statistics.completion_tokens == 6


def test_deliver_routes_events_to_their_tickets() -> None:
    harness = Harness(concurrency=2)
    one, two = harness.submit(), harness.submit()
    harness.deliver([Text(one.id, 0, "a", 1), Text(two.id, 0, "b", 1), Text(one.id, 0, "c", 1)])
    assert text_of(read(one.mailbox)) == "ac"
    assert text_of(read(two.mailbox)) == "b"


@pytest.mark.parametrize("end", ["served", "cancelled", "timed_out", "failed"])
def test_deliver_drops_events_of_ended_tickets(end: str) -> None:
    harness = Harness(concurrency=1, timeout_s=10.0)
    ticket = harness.submit()
    match end:
        case "served":
            harness.finish(ticket)
        case "cancelled":
            harness.queue.cancel(ticket)
        case "timed_out":
            harness.clock.advance(10)
        case "failed":
            harness.fail(ticket)
    before = read(ticket.mailbox)
    harness.say(ticket)
    harness.finish(ticket)
    harness.fail(ticket)
    harness.deliver([Text(999, 0, "of nobody", 1)])
    assert ticket.state.value == end
    assert read(ticket.mailbox) == []
    assert len(before) == (0 if end == "cancelled" else 1)
    assert harness.queue.rows_used == 0


def test_a_prompt_that_the_worker_refuses_ends_without_waiting_for_a_row() -> None:
    harness = Harness(concurrency=1)
    running, refused = harness.submit(), harness.submit()
    harness.deliver([Failed(refused.id, FailureKind.INVALID, "too long", "messages")])
    assert _states(running, refused) == ["running", "invalid"]
    assert read(refused.mailbox) == [Failed(refused.id, FailureKind.INVALID, "too long", "messages")]
    assert harness.queue.live == 1


def test_a_failure_of_the_engine_ends_all_sequences_of_its_ticket() -> None:
    harness = Harness(concurrency=4)
    ticket = harness.submit(rows=3)
    harness.finish(ticket, 0)
    harness.fail(ticket)
    assert harness.queue.rows_used == 0
    assert failures_of(read(ticket.mailbox)) == [FailureKind.ENGINE]


def test_a_reader_that_is_too_slow_is_given_up() -> None:
    harness = Harness()
    ticket = harness.submit()
    harness.worker.take()
    for _ in range(2):
        harness.say(ticket, "x" * 200_000)
    harness.say(ticket, "more")
    assert ticket.state is TicketState.FAILED
    assert harness.worker.take() == [("cancel", ticket.id)]
    assert failures_of(read(ticket.mailbox)) == [FailureKind.SLOW_READER]
    assert harness.queue.rows_used == 0


def test_a_whole_answer_may_be_as_long_as_it_likes() -> None:
    harness = Harness()
    ticket = harness.submit(whole=True)
    for _ in range(4):
        harness.say(ticket, "x" * 200_000)
    harness.finish(ticket)
    assert len(text_of(read(ticket.mailbox))) == 800_000


def test_every_kind_of_part_reaches_the_reader_and_counts_its_tokens() -> None:
    harness = Harness()
    ticket = harness.submit()
    parts = [Reasoning(ticket.id, 0, "hm", 2), Text(ticket.id, 0, "x", 3), ToolCall(ticket.id, 0, 0, "{}", 4, "c", "f")]
    harness.deliver([*parts])
    assert read(ticket.mailbox) == parts
    assert harness.queue.statistics.completion_tokens == 9


def test_what_a_prompt_took_is_known_with_the_first_text_and_forgotten_with_the_worker() -> None:
    harness = Harness()
    ticket = harness.submit()
    announced = Started(ticket.id, 0, 10, 4)
    harness.deliver([announced])
    assert ticket.started == announced
    assert not ticket.mailbox.closed
    harness.lose("it died")
    assert ticket.started is None
    harness.ready(1)
    harness.say(ticket, "of the second life")
    assert [type(event) for event in read(ticket.mailbox)] == [Text]


def test_a_lost_worker_costs_a_request_nothing_that_its_client_has_not_seen() -> None:
    harness = Harness(concurrency=1)
    ticket = harness.submit()
    harness.say(ticket, "of the first life")
    harness.lose("it died")
    assert (ticket.state, ticket.replays) == (TicketState.WAITING, 1)
    assert (harness.queue.rows_used, harness.queue.credits) == (0, 0)
    harness.worker.take()
    harness.ready(1)
    assert harness.worker.take() == [("submit", ticket.id, 1)]
    harness.say(ticket, "of the second")
    harness.finish(ticket)
    assert text_of(read(ticket.mailbox)) == "of the second"
    assert ticket.state is TicketState.SERVED
    assert harness.queue.statistics.replayed == 1


def test_a_lost_worker_fails_what_its_client_has_seen_exactly_once() -> None:
    harness = Harness(concurrency=1)
    ticket = harness.submit()
    harness.say(ticket, "seen")
    assert text_of(read(ticket.mailbox)) == "seen"
    ticket.sent = True
    harness.lose("it died")
    harness.lose("it died again")
    assert read(ticket.mailbox) == [Failed(ticket.id, FailureKind.WORKER_LOST, "it died")]
    assert read(ticket.mailbox) == []
    assert harness.queue.statistics.failed == 1


def test_a_second_death_ends_a_request() -> None:
    harness = Harness(concurrency=1)
    poisonous, bystander = harness.submit(), harness.submit()
    harness.lose("it died")
    harness.ready(1)
    harness.lose("it died again")
    assert failures_of(read(poisonous.mailbox)) == [FailureKind.WORKER_LOST]
    assert (bystander.state, bystander.replays) == (TicketState.WAITING, 0)
    harness.ready(1)
    harness.finish(bystander)
    assert bystander.state is TicketState.SERVED


def test_a_request_that_was_prepared_ahead_of_a_death_is_not_prepared_ahead_again() -> None:
    """Else one that kills the worker while it waits uses up all lives, and those of the requests before it."""
    harness = Harness(concurrency=1)
    harness.submit()
    poisonous = harness.submit()
    harness.lose("it died")
    newcomer = harness.submit()
    harness.worker.take()
    harness.ready(1)
    calls = harness.worker.take()
    assert ("submit", newcomer.id, 0) in calls
    assert ("submit", poisonous.id, 0) not in calls


def test_a_waiting_request_survives_any_number_of_deaths() -> None:
    harness = Harness(concurrency=1, ready_rows=0)
    ticket = harness.submit()
    for _ in range(5):
        harness.lose("it died")
    harness.ready(1)
    harness.finish(ticket)
    assert ticket.state is TicketState.SERVED


def test_replayed_requests_keep_their_places_in_line() -> None:
    harness = Harness(concurrency=3)
    one, seen, large, waiting = harness.submit(), harness.submit(), harness.submit(rows=3), harness.submit()
    seen.sent = True
    harness.lose("it died")
    harness.worker.take()
    harness.ready(2)
    assert harness.worker.take() == [
        ("submit", one.id, 1),
        ("submit", large.id, 1),
    ]
    assert _states(one, seen, large, waiting) == ["running", "failed", "running", "waiting"]


def test_a_half_finished_large_request_starts_over_whole() -> None:
    harness = Harness(concurrency=2)
    ticket = harness.submit(rows=4)
    harness.finish(ticket, 0, 1)
    harness.lose("it died")
    harness.ready(2)
    for index in range(4):
        assert ticket.state is TicketState.RUNNING
        harness.finish(ticket, index)
    assert ticket.state is TicketState.SERVED
    events = read(ticket.mailbox)
    assert sorted(event.index for event in events if isinstance(event, Finished)) == [0, 1, 2, 3]


def test_requests_still_time_out_while_no_worker_lives() -> None:
    harness = Harness(concurrency=1, timeout_s=10.0)
    replayed = harness.submit()
    harness.clock.advance(4)
    harness.lose("it died")
    newcomer = harness.submit()
    harness.clock.advance(6)
    assert failures_of(read(replayed.mailbox)) == [FailureKind.TIMEOUT]
    harness.clock.advance(4)
    assert failures_of(read(newcomer.mailbox)) == [FailureKind.TIMEOUT]


def test_close_ends_what_waits_and_lets_run_what_runs() -> None:
    harness = Harness(concurrency=1)
    running, waiting = harness.submit(), harness.submit()
    harness.worker.take()
    harness.queue.close(FailureKind.SHUTTING_DOWN, "good night")
    assert harness.queue.closed
    assert read(waiting.mailbox) == [Failed(waiting.id, FailureKind.SHUTTING_DOWN, "good night")]
    assert harness.worker.take() == [("cancel", waiting.id)]
    harness.finish(running)
    assert running.state is TicketState.SERVED
    assert harness.queue.idle.is_set()


def test_close_lets_a_large_request_run_its_turns() -> None:
    harness = Harness(concurrency=1)
    ticket = harness.submit(rows=3)
    harness.queue.close(FailureKind.SHUTTING_DOWN, "good night")
    for index in range(3):
        harness.finish(ticket, index)
    assert ticket.state is TicketState.SERVED


def test_submit_after_close_is_refused_with_its_reason() -> None:
    harness = Harness()
    harness.queue.close(FailureKind.UNAVAILABLE, "given up")
    depths = []
    for _ in range(3):
        with pytest.raises(QueueClosed, match="given up") as caught:
            harness.submit()
        assert caught.value.kind is FailureKind.UNAVAILABLE
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1, "each refusal must be an exception of its own, or tracebacks pile up"


def test_abort_ends_everything_once() -> None:
    harness = Harness(concurrency=2)
    tickets = [harness.submit(rows=rows) for rows in (1, 4, 1)]
    harness.worker.take()
    harness.queue.abort(FailureKind.SHUTTING_DOWN, "good night")
    harness.queue.abort(FailureKind.SHUTTING_DOWN, "good night again")
    for ticket in tickets:
        assert read(ticket.mailbox) == [Failed(ticket.id, FailureKind.SHUTTING_DOWN, "good night")]
        assert read(ticket.mailbox) == []
    assert {("cancel", ticket.id) for ticket in tickets} <= set(harness.worker.take())
    assert (harness.queue.live, harness.queue.rows_used, harness.clock.pending) == (0, 0, 0)
    assert harness.queue.idle.is_set()


def test_statistics_count_each_end_once() -> None:
    harness = Harness(concurrency=4, timeout_s=10.0)
    served, cancelled, failed, _ = (harness.submit() for _ in range(4))
    harness.finish(served)
    harness.queue.cancel(cancelled)
    harness.fail(failed)
    harness.clock.advance(10)
    statistics = harness.queue.statistics
    assert (statistics.served, statistics.cancelled, statistics.failed, statistics.timed_out) == (1, 1, 1, 1)
    assert statistics.request_s.count == 4


def test_statistics_measure_waiting_first_token_gaps_and_service() -> None:
    harness = Harness(concurrency=1)
    first = harness.submit()
    second = harness.submit()
    harness.clock.advance(3)
    harness.finish(first)
    harness.clock.advance(2)
    harness.say(second)
    harness.clock.advance(1)
    harness.say(second, tokens=4)
    harness.clock.advance(1)
    harness.finish(second)
    statistics = harness.queue.statistics
    assert (statistics.queue_s.count, statistics.queue_s.sum) == (2, 3.0)
    assert (statistics.first_token_s.count, statistics.first_token_s.sum) == (1, 5.0)
    assert (statistics.inter_token_s.count, statistics.inter_token_s.sum) == (4, 1.0)
    assert statistics.request_s.sum == 3.0 + 7.0
    assert statistics.mean_service_s is not None
    assert 3.0 < statistics.mean_service_s < 4.0
    assert (statistics.prompt_tokens, statistics.completion_tokens) == (6, 5)


def test_statistics_measure_gaps_within_each_sequence() -> None:
    harness = Harness(concurrency=2)
    ticket = harness.submit(rows=2)
    for _ in range(2):
        harness.clock.advance(1)
        harness.deliver([Text(ticket.id, 0, "a", 1), Text(ticket.id, 1, "b", 1)])
    statistics = harness.queue.statistics
    assert (statistics.inter_token_s.count, statistics.inter_token_s.sum) == (2, 2.0)
