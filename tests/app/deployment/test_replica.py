"""One worker and its place in the queue, from its first message to the last."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from support.running.queues import request

from mlx_server.app.deployment.query_queue import QueryQueue
from mlx_server.app.deployment.replica import Replica
from mlx_server.queue.dispatcher import Dispatcher
from mlx_server.queue.ticket import TicketState
from mlx_server.schemas.internal.messages import FailureKind, Load
from mlx_server.workers.parent.supervisor import Patience, WorkerState

GONE = "it was taken away"


class World:
    """Replicas on one queue; the owner of each is the world."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, Replica]] = asyncio.Queue()
        self.queue = Dispatcher(asyncio.get_running_loop(), queue_size=10, concurrency=2, timeout_s=60)
        self.queries = QueryQueue(limit=10, timeout_s=60)
        self.running: list[asyncio.Task[None]] = []

    def start(self, path: str = "scripted") -> Replica:
        spec = Load(path, "scripted", 2, 512, "/dev/null/nowhere")
        replica = Replica(spec, self, self.queue, self.queries, Patience(), "error")
        self.running.append(asyncio.ensure_future(replica.run()))
        return replica

    def rows_of(self, granted: int) -> int:
        return granted

    def loading(self, replica: Replica, loading: object) -> None:
        pass

    def ready_with(self, replica: Replica, facts: object) -> None:
        self.told.put_nowait(("ready", replica))

    def given_up(self, replica: Replica, message: str) -> None:
        self.told.put_nowait((message, replica))


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            world = World()
            await scenario(world)
            await asyncio.gather(*world.running)

    asyncio.run(limited())


def test_a_replica_that_is_stopped_leaves_its_requests_to_the_next() -> None:
    async def scenario(world: World) -> None:
        first = world.start()
        assert await world.told.get() == ("ready", first)
        ticket = world.queue.submit(request(), whole=True)
        seen = world.queue.submit(request(), whole=False)
        seen.sent = True
        await first.stop(GONE)
        await first.stop(GONE)
        assert (ticket.state, seen.state, world.queue.credits) == (TicketState.WAITING, TicketState.FAILED, 0)
        second = world.start()
        assert await world.told.get() == ("ready", second)
        while not ticket.mailbox.closed:
            await ticket.mailbox.get()
        assert ticket.state is TicketState.SERVED
        await second.stop(GONE)

    run(scenario)


def test_a_replica_that_is_stopped_while_it_loads_never_takes_work() -> None:
    async def scenario(world: World) -> None:
        replica = world.start("scripted:load_s=0.5")
        waiting = world.queue.submit(request(), whole=True)
        await replica.stop(GONE)
        await asyncio.gather(*world.running)
        assert (replica.state, world.told.empty(), waiting.state) == (WorkerState.STOPPED, True, TicketState.WAITING)
        world.queue.abort(FailureKind.SHUTTING_DOWN, "the test is over")

    run(scenario)


def test_a_replica_that_cannot_start_is_out_of_the_queue_and_says_why() -> None:
    async def scenario(world: World) -> None:
        replica = world.start("scripted:fail")
        message, told_of = await world.told.get()
        assert told_of is replica
        assert message == "the script says that this model can't be loaded"
        assert replica.state is WorkerState.FAILED
        waiting = world.queue.submit(request(), whole=True)
        assert waiting.slots is None
        world.queue.abort(FailureKind.SHUTTING_DOWN, "the test is over")

    run(scenario)
