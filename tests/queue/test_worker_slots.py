"""One queue before several workers: who gets which request, and what becomes of it when a worker goes."""

import pytest
from support.running.queues import Harness, RecordingWorker, failures_of, read, text_of

from mlx_server.queue.errors import QueueFull
from mlx_server.queue.ticket import Ticket, TicketState
from mlx_server.schemas.internal.messages import Failed, FailureKind, Finished, Text


def _states(*tickets: Ticket) -> list[str]:
    return [ticket.state.value for ticket in tickets]


def test_requests_go_where_most_rows_are_free() -> None:
    harness = Harness(concurrency=2, workers=3)
    tickets = [harness.submit() for _ in range(6)]
    assert harness.where(*tickets) == [0, 1, 2, 0, 1, 2]
    harness.finish(tickets[1])
    harness.finish(tickets[4])
    harness.finish(tickets[2])
    assert harness.where(harness.submit(), harness.submit(), harness.submit()) == [1, 2, 1], "in turns"


def test_a_larger_worker_gets_more() -> None:
    harness = Harness(concurrency=4, workers=2, ready_rows=0)
    harness.ready(1, 0)
    harness.ready(4, 1)
    tickets = [harness.submit() for _ in range(5)]
    assert harness.where(*tickets) == [1, 1, 1, 0, 1]


def test_rows_and_places_are_counted_over_all_workers() -> None:
    harness = Harness(queue_size=1, concurrency=2, workers=2, ready_rows=0)
    assert (harness.queue.capacity, harness.queue.credits) == (5, 0)
    harness.ready(1, 0)
    assert (harness.queue.capacity, harness.queue.credits) == (4, 1)
    harness.ready(2, 1)
    assert (harness.queue.capacity, harness.queue.credits) == (4, 3)
    for _ in range(4):
        harness.submit()
    with pytest.raises(QueueFull):
        harness.submit()
    assert (harness.queue.running, harness.queue.waiting, harness.queue.rows_used) == (3, 1, 3)


def test_requests_wait_while_there_is_no_worker_at_all() -> None:
    harness = Harness(queue_size=1, concurrency=2, workers=0)
    tickets = [harness.submit() for _ in range(3)]
    with pytest.raises(QueueFull):
        harness.submit()
    assert _states(*tickets) == ["waiting"] * 3
    worker = RecordingWorker()
    harness.all_slots.append(harness.queue.add_slots(worker))
    assert worker.take() == []
    harness.ready(2)
    assert [call[0] for call in worker.take()] == ["submit"] * 3
    assert _states(*tickets) == ["running", "running", "waiting"]


def test_waiting_requests_are_prepared_by_those_who_have_the_fewest() -> None:
    harness = Harness(concurrency=1, workers=2)
    tickets = [harness.submit() for _ in range(6)]
    assert harness.where(*tickets) == [0, 1, 0, 1, 0, 1]
    assert harness.workers[0].take() == [("submit", tickets[0].id, 1)] + [("submit", tickets[n].id, 0) for n in (2, 4)]


def test_a_request_that_is_prepared_moves_to_the_first_free_row() -> None:
    harness = Harness(concurrency=1, workers=2)
    first, second, third, fourth = (harness.submit() for _ in range(4))
    assert harness.where(third, fourth) == [0, 1]
    for worker in harness.workers:
        worker.take()
    harness.finish(second)
    assert harness.where(third) == [1]
    assert harness.workers[0].take() == [("cancel", third.id)]
    assert harness.workers[1].take() == [("submit", third.id, 1)]
    harness.finish(first)
    assert harness.where(fourth) == [0]
    harness.finish(third)
    harness.finish(fourth)
    assert (harness.queue.live, [slots.tickets for slots in harness.all_slots]) == (0, [0, 0])


def test_a_request_with_several_sequences_stays_on_one_worker() -> None:
    harness = Harness(concurrency=2, workers=2)
    large = harness.submit(rows=4)
    assert harness.where(large) == [0]
    assert (large.rows_held, harness.all_slots[1].rows_used) == (2, 0)
    others = [harness.submit() for _ in range(3)]
    assert harness.where(*others[:2]) == [1, 1], "nobody waits for a row that the large one may not have"
    harness.finish(others[0])
    assert (large.rows_held, others[2].state) == (2, TicketState.RUNNING)
    harness.finish(large, 0, 1)
    assert (large.rows_held, harness.where(large)) == (2, [0])
    harness.finish(large, 2, 3)
    assert large.state is TicketState.SERVED


def test_each_worker_runs_a_class_of_its_own() -> None:
    harness = Harness(concurrency=2, workers=2)
    first, other, companion, bare = (
        harness.submit(1, "a"),
        harness.submit(1, "b"),
        harness.submit(1, "a"),
        harness.submit(),
    )
    assert harness.where(first, other, companion) == [0, 1, 0]
    assert bare.state is TicketState.WAITING
    harness.finish(other)
    assert (harness.where(bare), bare.state) == ([1], TicketState.RUNNING)
    waiting = harness.submit(1, "a")
    assert waiting.state is TicketState.WAITING
    harness.finish(bare)
    assert (harness.where(waiting), waiting.state) == ([1], TicketState.RUNNING)


def test_two_steady_streams_do_not_starve_a_third_class() -> None:
    harness = Harness(concurrency=2, workers=2, queue_size=20)
    stream = [harness.submit(1, "a") for _ in range(4)]
    other = harness.submit(1, "b")
    for _ in range(8):
        if other.rows_held:
            break
        stream.append(harness.submit(1, "a"))
        harness.finish(next(ticket for ticket in stream if ticket.rows_held))
    assert other.rows_held == 1
    assert other.overtaken == 2


def test_events_of_a_worker_that_has_a_ticket_no_longer_are_dropped() -> None:
    harness = Harness(concurrency=1, workers=2)
    _, second, moved = harness.submit(), harness.submit(), harness.submit()
    harness.finish(second)
    assert harness.where(moved) == [1]
    harness.deliver([Failed(moved.id, FailureKind.INVALID, "late"), Finished(moved.id, 0, "stop", 1, 0, 1)], worker=0)
    assert moved.state is TicketState.RUNNING
    harness.say(moved, "of the one that has it")
    harness.finish(moved)
    assert text_of(read(moved.mailbox)) == "of the one that has it"


def test_cancel_goes_to_the_worker_that_has_the_ticket() -> None:
    harness = Harness(concurrency=1, workers=2)
    first, second = harness.submit(), harness.submit()
    for worker in harness.workers:
        worker.take()
    harness.queue.cancel(second)
    assert (harness.workers[0].take(), harness.workers[1].take()) == ([], [("cancel", second.id)])
    harness.clock.advance(300)
    assert (harness.workers[0].take(), harness.workers[1].take()) == ([("cancel", first.id)], [])


def test_what_a_lost_worker_ran_starts_over_on_another_and_the_others_go_on() -> None:
    harness = Harness(concurrency=2, workers=2)
    lost, kept, seen = harness.submit(), harness.submit(), harness.submit()
    assert harness.where(lost, kept, seen) == [0, 1, 0]
    harness.say(lost, "of the first life")
    harness.say(seen, "seen")
    seen.sent = True
    harness.workers[1].take()
    harness.lose("it died")
    assert harness.workers[1].take() == [("submit", lost.id, 1)]
    assert _states(lost, kept, seen) == ["running", "running", "failed"]
    assert failures_of(read(seen.mailbox)) == [FailureKind.WORKER_LOST]
    harness.deliver([Text(lost.id, 0, "a ghost", 1)], worker=0)
    harness.say(lost, "of the second")
    harness.finish(lost)
    harness.finish(kept)
    assert text_of(read(lost.mailbox)) == "of the second"
    assert harness.queue.statistics.replayed == 1


def test_requests_that_start_over_come_before_those_that_came_later() -> None:
    harness = Harness(concurrency=1, workers=2)
    first, second, third = harness.submit(), harness.submit(), harness.submit()
    harness.lose("it died")
    assert _states(first, second, third) == ["waiting", "running", "waiting"]
    harness.finish(second)
    assert _states(first, third) == ["running", "waiting"]


def test_what_a_lost_worker_had_prepared_only_is_not_prepared_ahead_by_another() -> None:
    harness = Harness(concurrency=1, workers=2)
    _, second, third = harness.submit(), harness.submit(), harness.submit()
    assert harness.where(third) == [0]
    harness.lose("it died")
    assert (harness.where(third), third.replays) == ([None], 0)
    harness.ready(1)
    assert harness.where(third) == [None]
    harness.finish(second)
    assert (harness.where(third), third.state) == ([1], TicketState.RUNNING)


def test_a_request_that_kills_two_workers_ends() -> None:
    harness = Harness(concurrency=1, workers=3)
    poisonous = harness.submit()
    harness.lose("it died")
    assert harness.where(poisonous) == [1]
    harness.lose("it died, too", worker=1)
    assert failures_of(read(poisonous.mailbox)) == [FailureKind.WORKER_LOST]
    assert harness.workers[2].take() == []


def test_a_worker_that_is_taken_away_is_told_to_stop_and_its_requests_go_elsewhere() -> None:
    harness = Harness(queue_size=0, concurrency=2, workers=2)
    running, seen, prepared = harness.submit(), harness.submit(), harness.submit(1, "a")
    assert harness.where(running, seen, prepared) == [0, 1, 0]
    seen.sent = True
    for worker in harness.workers:
        worker.take()
    harness.queue.remove_slots(harness.all_slots[0], "it was taken away")
    assert sorted(harness.workers[0].take()) == [("cancel", running.id), ("cancel", prepared.id)]
    assert harness.workers[1].take() == [("submit", running.id, 1), ("submit", prepared.id, 0)]
    assert harness.queue.capacity == 2
    harness.queue.remove_slots(harness.all_slots[1], "and this one")
    assert _states(running, seen, prepared) == ["waiting", "failed", "waiting"]
    assert read(seen.mailbox) == [Failed(seen.id, FailureKind.WORKER_LOST, "and this one")]
    assert harness.queue.credits == harness.queue.rows_used == 0
    assert harness.queue.statistics.replayed == 2


def test_everything_can_be_ended_without_closing() -> None:
    harness = Harness(concurrency=1, workers=2)
    tickets = [harness.submit(rows) for rows in (1, 2, 1)]
    for worker in harness.workers:
        worker.take()
    harness.queue.fail_all(FailureKind.UNAVAILABLE, "it could not be loaded")
    for ticket in tickets:
        assert read(ticket.mailbox) == [Failed(ticket.id, FailureKind.UNAVAILABLE, "it could not be loaded")]
    assert ("cancel", tickets[0].id) in harness.workers[0].take()
    assert harness.queue.idle.is_set()
    later = harness.submit()
    harness.finish(later)
    assert later.state is TicketState.SERVED
