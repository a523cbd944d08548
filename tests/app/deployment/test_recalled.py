"""A replica whose place others want makes way, and another one waits for a place."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psutil

from mlx_server.app.config.settings import ModelSettings, Settings
from mlx_server.app.deployment.deployment import Deployment
from mlx_server.workers.parent.handle import Starts
from mlx_server.workers.parent.local import LocalStarts


def run(scenario: Callable[[Deployment, list[Callable[[], None]]], Coroutine[Any, Any, None]]) -> None:
    """With a model of two replicas, and what recalls each place that was asked for."""

    async def limited() -> None:
        recalls: list[Callable[[], None]] = []

        def place(name: str, needs_bytes: int, recalled: Callable[[], None]) -> Starts:
            recalls.append(recalled)
            return LocalStarts()

        settings = ModelSettings("scripted", "scripted", "one", replicas=2)
        deployment = Deployment(settings, "scripted", Settings(models=(settings,)), place=place)
        async with asyncio.timeout(60):
            await deployment.load()
            await both_ready(deployment)
            await scenario(deployment, recalls)
            await deployment.stop()
        assert not [one for one in psutil.Process().children() if "mlx_server.workers" in one.cmdline()]

    asyncio.run(limited())


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - a deployment tells of its first replica alone
        await asyncio.sleep(0.01)


async def both_ready(deployment: Deployment) -> None:
    await until(lambda: deployment.worker_states == {"ready": 2})


def test_another_replica_takes_its_place_in_the_queue() -> None:
    async def scenario(deployment: Deployment, recalls: list[Callable[[], None]]) -> None:
        first, second = deployment.replicas
        recalls[0]()
        await until(lambda: first not in deployment.replicas)
        await both_ready(deployment)
        assert deployment.replicas[1] is second
        assert (len(recalls), deployment.restarts, deployment.queue.credits) == (3, 0, 2 * deployment.queue.concurrency)
        recalls[0]()  # it has gone already
        assert len(recalls) == 3

    run(scenario)


def test_one_that_is_stopped_meanwhile_leaves_nothing() -> None:
    async def scenario(deployment: Deployment, recalls: list[Callable[[], None]]) -> None:
        recalls[0]()
        recalls[1]()
        await until(lambda: len(recalls) > 2)

    run(scenario)
