"""Requests with different adapters in one queue."""

from support.running.queues import Harness

from mlx_server.queue.ticket import Ticket, TicketState


def _running(*tickets: Ticket) -> list[bool]:
    return [ticket.rows_held > 0 for ticket in tickets]


def test_requests_with_one_adapter_run_together() -> None:
    harness = Harness(concurrency=3)
    tickets = [harness.submit(1, "a") for _ in range(4)]
    assert _running(*tickets) == [True, True, True, False]


def test_requests_with_different_adapters_never_run_together() -> None:
    harness = Harness(concurrency=4)
    first, other, plain = harness.submit(1, "a"), harness.submit(1, "b"), harness.submit()
    assert _running(first, other, plain) == [True, False, False]
    harness.finish(first)
    assert _running(other, plain) == [True, False]
    harness.finish(other)
    assert _running(plain) == [True]


def test_a_request_that_waits_for_its_class_is_prepared_meanwhile() -> None:
    harness = Harness(concurrency=4)
    first, other = harness.submit(1, "a"), harness.submit(1, "b")
    assert harness.worker.take() == [("submit", first.id, 1), ("submit", other.id, 0)]
    harness.queue.cancel(first)
    assert harness.worker.take() == [("cancel", first.id), ("grant", other.id, 1)]


def test_alternating_adapters_still_fill_the_batch() -> None:
    harness = Harness(concurrency=4, queue_size=20)
    tickets = [harness.submit(1, name) for _ in range(8) for name in "ab"]
    batches = []
    while harness.queue.live:
        batch = [ticket for ticket in tickets if ticket.rows_held]
        batches.append(len(batch))
        for ticket in batch:
            harness.finish(ticket)
    assert sum(batches) == 16
    assert len(batches) <= 7, "the adapter was switched too often"


def test_a_steady_stream_of_one_adapter_does_not_starve_another() -> None:
    harness = Harness(concurrency=2, queue_size=20)
    stream = [harness.submit(1, "a") for _ in range(2)]
    other = harness.submit(1, "b")
    served_before = 0
    while not other.rows_held:
        assert served_before <= 4, "it was overtaken more often than there are rows"
        stream.append(harness.submit(1, "a"))
        harness.finish(next(ticket for ticket in stream if ticket.rows_held))
        served_before += 1
    assert other.overtaken == 2


def test_a_large_request_that_gave_way_goes_on_afterwards() -> None:
    harness = Harness(concurrency=2)
    first = harness.submit(1, "a")
    other = harness.submit(1, "b")
    large = harness.submit(5, "a")
    assert (large.rows_held, other.overtaken) == (1, 1)
    harness.finish(first)
    assert (large.rows_held, other.overtaken) == (2, 2)
    harness.finish(large, 0, 1)
    assert _running(large, other) == [False, True]
    harness.finish(other)
    harness.finish(large, 2, 3, 4)
    assert {ticket.state for ticket in (first, other, large)} == {TicketState.SERVED}


def test_a_lost_worker_puts_everybody_back_in_order_of_arrival() -> None:
    harness = Harness(concurrency=2)
    first, other, overtaker = harness.submit(1, "a"), harness.submit(1, "b"), harness.submit(1, "a")
    assert _running(first, other, overtaker) == [True, False, True]
    harness.queue.cancel(first)
    harness.lose("it died")
    harness.worker.take()
    harness.ready(2)
    assert _running(other, overtaker) == [True, False]
    harness.finish(other)
    assert _running(overtaker) == [True]
