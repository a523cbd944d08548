"""Questions to a worker: bounded, in time, and each with one end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mlx_server.app.deployment.query_queue import QueryQueue, Unanswered
from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.schemas.internal.messages import Decoded, FailureKind, NoAnswer, TextOf

QUESTION = TextOf((1, 2))
DEATH = "The worker process died of SIGKILL"


class RecordingOracle:
    def __init__(self) -> None:
        self.asked: list[int] = []
        self.withdrawn: list[int] = []

    def ask(self, number: int, question: Any) -> None:
        assert question == QUESTION
        self.asked.append(number)

    def withdraw(self, number: int) -> None:
        self.withdrawn.append(number)


class World:
    def __init__(self, *, ready: bool = True, limit: int = 2, timeout_s: float = 30.0) -> None:
        self.oracle = RecordingOracle()
        self.queries = QueryQueue(limit=limit, timeout_s=timeout_s)
        if ready:
            self.queries.worker_ready(self.oracle)

    async def ask(self) -> "asyncio.Task[Any]":
        """A question that has been taken and waits."""
        task = asyncio.ensure_future(self.queries.ask(QUESTION))
        await asyncio.sleep(0)
        return task


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def failure(task: "asyncio.Task[Any]") -> FailureKind:
    with pytest.raises(Unanswered) as caught:
        await task
    return caught.value.why.kind


def test_answers_find_their_questions() -> None:
    async def scenario() -> None:
        world = World()
        first, second = await world.ask(), await world.ask()
        world.queries.answered(world.oracle.asked[1], Decoded("second"))
        world.queries.answered(world.oracle.asked[0], Decoded("first"))
        assert [await first, await second] == [Decoded("first"), Decoded("second")]
        assert world.oracle.withdrawn == []
        assert world.queries.idle.is_set()

    run(scenario)


def test_refused_question_says_why() -> None:
    async def scenario() -> None:
        world = World()
        task = await world.ask()
        why = NoAnswer(FailureKind.INVALID, "no such token", "tokens")
        world.queries.answered(1, why)
        with pytest.raises(Unanswered) as caught:
            await task
        assert caught.value.why == why

    run(scenario)


def test_no_more_live_than_the_limit() -> None:
    async def scenario() -> None:
        world = World(limit=2)
        first, second = await world.ask(), await world.ask()
        with pytest.raises(QueueFull) as caught:
            await world.queries.ask(QUESTION)
        assert caught.value.retry_after_s == 1
        world.queries.answered(1, Decoded(""))
        await first
        third = await world.ask()
        world.queries.answered(3, Decoded("third"))
        assert await third == Decoded("third")
        second.cancel()

    run(scenario)


def test_who_leaves_gives_the_place_back_and_the_worker_is_told() -> None:
    async def scenario() -> None:
        world = World(limit=1)
        task = await world.ask()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.oracle.withdrawn == [1]
        world.queries.answered(1, Decoded("late"))
        other = await world.ask()
        world.queries.answered(2, Decoded("in time"))
        assert await other == Decoded("in time")

    run(scenario)


def test_time_runs_out() -> None:
    async def scenario() -> None:
        world = World(timeout_s=0.01)
        assert await failure(await world.ask()) is FailureKind.TIMEOUT
        assert world.oracle.withdrawn == [1]
        assert world.queries.idle.is_set()

    run(scenario)


def test_question_waits_for_the_worker() -> None:
    async def scenario() -> None:
        world = World(ready=False)
        task = await world.ask()
        assert world.oracle.asked == []
        world.queries.worker_ready(world.oracle)
        assert world.oracle.asked == [1]
        world.queries.answered(1, Decoded("there"))
        assert await task == Decoded("there")

    run(scenario)


def test_lost_worker_ends_what_it_was_asked_and_nothing_else() -> None:
    async def scenario() -> None:
        world = World()
        asked = await world.ask()
        world.queries.worker_lost(world.oracle, DEATH)
        waiting = await world.ask()
        world.queries.worker_lost(world.oracle, "the next one died before it was ready")
        assert await failure(asked) is FailureKind.WORKER_LOST
        assert world.oracle.asked == [1]
        world.queries.worker_ready(world.oracle)
        world.queries.answered(2, Decoded("by the third"))
        assert await waiting == Decoded("by the third")

    run(scenario)


def test_closing_refuses_new_ones_and_lets_the_worker_answer() -> None:
    async def scenario() -> None:
        world = World()
        asked = await world.ask()
        world.queries.close(FailureKind.SHUTTING_DOWN, "bye")
        with pytest.raises(QueueClosed) as caught:
            await world.queries.ask(QUESTION)
        assert caught.value.kind is FailureKind.SHUTTING_DOWN
        world.queries.answered(1, Decoded("just so"))
        assert await asked == Decoded("just so")

    run(scenario)


def test_closing_ends_what_waits_for_a_worker() -> None:
    async def scenario() -> None:
        world = World(ready=False)
        waiting = await world.ask()
        world.queries.close(FailureKind.SHUTTING_DOWN, "bye")
        assert await failure(waiting) is FailureKind.SHUTTING_DOWN

    run(scenario)


def test_aborting_ends_everything() -> None:
    async def scenario() -> None:
        world = World()
        asked = await world.ask()
        world.queries.abort(FailureKind.UNAVAILABLE, "given up")
        assert await failure(asked) is FailureKind.UNAVAILABLE
        assert world.queries.idle.is_set()

    run(scenario)


def test_of_several_workers_the_one_with_the_fewest_open_questions_is_asked() -> None:
    async def scenario() -> None:
        world, second = World(limit=5), RecordingOracle()
        world.queries.worker_ready(second)
        tasks = [await world.ask() for _ in range(3)]
        assert (world.oracle.asked, second.asked) == ([1, 3], [2])
        world.queries.answered(1, Decoded("first"))
        world.queries.answered(3, Decoded("third"))
        tasks += [await world.ask() for _ in range(2)]
        assert (world.oracle.asked, second.asked) == ([1, 3, 4, 5], [2])
        for number in (2, 4, 5):
            world.queries.answered(number, Decoded(""))
        await asyncio.gather(*tasks)

    run(scenario)


def test_only_what_a_lost_worker_was_asked_ends_and_others_answer_what_comes() -> None:
    async def scenario() -> None:
        world, second = World(limit=5), RecordingOracle()
        world.queries.worker_ready(second)
        lost, kept = await world.ask(), await world.ask()
        world.queries.worker_lost(world.oracle, DEATH)
        assert await failure(lost) is FailureKind.WORKER_LOST
        later = await world.ask()
        assert second.asked == [2, 3]
        world.queries.answered(2, Decoded("kept"))
        world.queries.answered(3, Decoded("later"))
        assert [await kept, await later] == [Decoded("kept"), Decoded("later")]

    run(scenario)


def test_who_leaves_is_told_to_the_worker_that_was_asked() -> None:
    async def scenario() -> None:
        world, second = World(limit=5), RecordingOracle()
        world.queries.worker_ready(second)
        first, other = await world.ask(), await world.ask()
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        assert (world.oracle.withdrawn, second.withdrawn) == ([], [2])
        world.queries.answered(1, Decoded("first"))
        assert await first == Decoded("first")

    run(scenario)


def test_all_questions_can_be_ended_without_closing() -> None:
    async def scenario() -> None:
        world = World(ready=False)
        waiting = await world.ask()
        world.queries.fail_all(FailureKind.UNAVAILABLE, "it could not be loaded")
        assert await failure(waiting) is FailureKind.UNAVAILABLE
        later = await world.ask()
        world.queries.worker_ready(world.oracle)
        world.queries.answered(2, Decoded("there"))
        assert await later == Decoded("there")

    run(scenario)
