"""Rows that idle requests hold beside others."""

from support.running.clock import FakeClock
from support.running.queues import RecordingWorker, request

from mlx_server.queue.account import Priority
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Finished
from mlx_server.schemas.internal.work import Work

ECHOED = GenerationRequest((TextPrompt("x"),), 5, echo=True)
"""What can't go on where it was."""


class Queue(Dispatcher):
    """A queue with a worker of so many rows."""

    def __init__(self, rows: int, idle_rows: int) -> None:
        super().__init__(FakeClock(), queue_size=100, concurrency=rows, timeout_s=60, idle_rows=idle_rows)
        self.slots = self.add_slots(RecordingWorker())
        self.worker_ready(self.slots, rows)

    def has(self, work: Work, priority: Priority = Priority.NORMAL) -> Ticket:
        """Take in a request."""
        return self.submit(work, whole=True, priority=priority)

    def finish(self, ticket: Ticket) -> None:
        """The worker finished it."""
        self.deliver(self.slots, [Finished(ticket.id, 0, "stop", 3, 0, 5)])


def test_idle_requests_that_can_not_make_way_count_too() -> None:
    queue = Queue(rows=8, idle_rows=2)
    queue.has(request())
    idle = [queue.has(work, Priority.IDLE) for work in (ECHOED, request(), ECHOED, request())]
    assert [ticket.rows_held for ticket in idle] == [1, 1, 0, 0]
    queue.finish(idle[0])
    assert [ticket.rows_held for ticket in idle] == [0, 1, 1, 0]


def test_idle_requests_make_way_for_as_many_as_can_not() -> None:
    queue = Queue(rows=8, idle_rows=2)
    idle = [queue.has(work, Priority.IDLE) for work in (ECHOED, request(), ECHOED)]
    queue.has(request())
    assert [ticket.rows_held for ticket in idle] == [1, 0, 1]


def test_idle_requests_of_another_adapter_make_way_at_once() -> None:
    queue = Queue(rows=4, idle_rows=2)
    idle = [queue.has(request(adapter="b"), Priority.IDLE) for _ in range(5)]
    urgent = queue.has(request(adapter="a"))
    assert [ticket.rows_held for ticket in (urgent, *idle)] == [1, 0, 0, 0, 0, 0]
    queue.finish(urgent)
    assert [ticket.rows_held for ticket in idle] == [1, 1, 1, 1, 0]


def test_idle_requests_do_not_overtake_one_that_waits_for_its_adapter() -> None:
    queue = Queue(rows=2, idle_rows=2)
    echoed = [queue.has(GenerationRequest(ECHOED.prompts, 5, echo=True, adapter="b"), Priority.IDLE) for _ in range(2)]
    urgent = queue.has(request(adapter="a"))
    waiting = queue.has(request(adapter="b"), Priority.IDLE)
    for one in echoed:
        assert not urgent.rows_held
        queue.finish(one)
        assert not waiting.rows_held
    assert urgent.rows_held
