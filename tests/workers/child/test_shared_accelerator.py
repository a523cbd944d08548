"""Worker processes that take turns on the accelerator, and what they say of their memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.running.bare_worker import SPEC, BareWorker
from support.running.servers import Server
from support.running.supervised import SCENARIO_S, script

from mlx_server.schemas.internal.generation import GenerationRequest, TextPrompt
from mlx_server.schemas.internal.messages import Heartbeat, Load, Ready, Step, Stop, Submit
from mlx_server.workers.child.lease import Lease, machine_folder

SHARING = msgspec.structs.replace(SPEC, lease="on")


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SCENARIO_S):
            await scenario()

    asyncio.run(limited())


def submit(**what: Any) -> Submit:
    return Submit(1, GenerationRequest((TextPrompt(script(**what)),), 1 << 30), 1)


@asynccontextmanager
async def held() -> AsyncIterator[Lease]:
    """The machine's lease, in this process."""
    lease = Lease(machine_folder())
    assert await asyncio.to_thread(lease.acquire)
    try:
        yield lease
    finally:
        lease.release()


def test_a_worker_waits_for_its_turn_and_is_not_taken_for_one_that_hangs() -> None:
    async def scenario() -> None:
        async with BareWorker(SHARING) as worker:
            await worker.ready()
            async with held():
                worker.send(submit(tokens=3))
                for _ in range(3):
                    assert (await worker.receives(Heartbeat)).step_s == 0.0
            assert await worker.receives(Step)

    run(scenario)


def test_a_worker_computes_nothing_of_a_load_before_its_turn() -> None:
    async def scenario() -> None:
        async with held() as lease, BareWorker(SHARING) as worker:
            await worker.receives(Heartbeat)
            while not lease.wanted:
                await worker.receives(Heartbeat)
            lease.release()
            assert await worker.receives(Ready)

    run(scenario)


@pytest.mark.parametrize("loaded", [False, True], ids=["while-loading", "in-a-step"])
def test_a_worker_that_waits_for_its_turn_can_be_stopped(loaded: bool) -> None:
    async def scenario() -> None:
        async with BareWorker(SHARING) as worker:
            if loaded:
                await worker.ready()
            async with held() as lease:
                worker.send(submit(tokens=3))
                while not lease.wanted:
                    await worker.receives(Heartbeat)
                worker.send(Stop())
                assert await worker.process.wait() == 0

    run(scenario)


def test_a_worker_that_is_killed_in_a_step_frees_the_lease() -> None:
    async def scenario() -> None:
        lease = Lease(machine_folder())
        async with BareWorker(SHARING) as worker:
            await worker.ready()
            worker.send(submit(tokens=3, interval_s=0.01, hang_at=2))
            while (await worker.receives(Heartbeat)).step_s < 1:
                pass
            waiting = asyncio.ensure_future(asyncio.to_thread(lease.acquire))
            worker.process.kill()
            assert await waiting
            lease.release()

    run(scenario)


@pytest.mark.model
def test_replicas_that_take_turns_answer_as_one_that_is_alone(
    launch: Callable[..., Server], tiny_model: Callable[[str], Path]
) -> None:
    server = launch("--model-path", tiny_model("llama"), "--replicas", 2, "--accelerator-lease", "on")
    server.wait_until(lambda: server.stats()["workers"] == {"ready": 2})
    asked = {"prompt": ["hi"] * 4, "max_tokens": 40, "temperature": 0}
    alone = server.complete(**asked).json()["choices"]

    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(server.complete, **asked) for _ in range(4)]
        assert [answer.result().json()["choices"] for answer in together] == [alone] * 4


def test_a_worker_without_mlx_says_nothing_of_its_memory() -> None:
    async def scenario() -> None:
        async with BareWorker() as worker:
            await worker.ready()
            assert (await worker.receives(Heartbeat)).memory is None

    run(scenario)


@pytest.mark.model
def test_a_worker_tells_what_mlx_holds(tiny_model: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with BareWorker(Load(str(tiny_model("llama")), "lm", 4, 512, "/dev/null/nowhere")) as worker:
            facts = (await worker.receives(Ready)).facts
            while (memory := (await worker.receives(Heartbeat)).memory) is None:
                pass
            assert memory.unified
            assert facts.parameter_bytes <= memory.active

    run(scenario)
