"""The canary: when an idle worker is asked for a token, and what becomes of one that gives none."""

import asyncio
import re
from dataclasses import replace

import pytest
from support.running.fleets import until
from support.running.queues import text_of
from support.running.supervised import QUICK, SCENARIO_S, Supervised, script

from mlx_server.workers.parent.canary import Canary

OFTEN = replace(QUICK, canary_s=0.2, check_s=0.05)


def test_it_is_due_after_the_interval_without_work() -> None:
    canary = Canary(10.0, 5.0)
    canary.begin(0.0)
    assert not canary.due(9.0, idle=True)
    assert not canary.due(12.0, idle=False)
    assert not canary.due(21.0, idle=True)
    assert canary.due(22.0, idle=True)
    assert not canary.due(40.0, idle=True)
    canary.answered(41.0, well=True)
    assert not canary.due(50.0, idle=True)
    assert canary.due(51.0, idle=True)
    assert canary.outcomes == {"passed": 1}


def test_it_is_never_due_without_an_interval() -> None:
    canary = Canary(0.0, 5.0)
    canary.begin(0.0)
    assert not canary.due(1e9, idle=True)


def test_its_answer_is_overdue_once() -> None:
    canary = Canary(1.0, 5.0)
    canary.begin(0.0)
    assert not canary.overdue(100.0)
    assert canary.due(100.0, idle=True)
    assert not canary.overdue(105.0)
    canary.overslept(108.0)
    assert not canary.overdue(113.0)
    assert canary.overdue(113.1)
    assert not canary.overdue(200.0)
    assert canary.outcomes == {"failed": 1}


def test_what_a_worker_died_of_has_failed() -> None:
    canary = Canary(1.0, 5.0)
    canary.begin(0.0)
    assert canary.due(2.0, idle=True)
    canary.begin(3.0)
    assert canary.outcomes == {"failed": 1}
    assert not canary.overdue(100.0)


def test_an_idle_worker_is_asked_again_and_again_and_lives() -> None:
    async def scenario() -> None:
        async with Supervised(patience=OFTEN) as world:
            pid = world.worker.pid
            await until(lambda: world.worker.canaries["passed"] >= 3)
            assert text_of(await world.answer(world.submit("still works"))) == "token " * 2
            assert (world.worker.pid, world.worker.restarts, world.worker.canaries["failed"]) == (pid, 0, 0)
            assert world.queue.statistics.served == 1

    asyncio.run(asyncio.wait_for(scenario(), SCENARIO_S))


def test_a_worker_that_is_busy_is_not_asked() -> None:
    async def scenario() -> None:
        async with Supervised(patience=OFTEN) as world:
            await world.answer(world.submit(script(tokens=50, interval_s=0.02)))
            assert not world.worker.canaries

    asyncio.run(asyncio.wait_for(scenario(), SCENARIO_S))


@pytest.mark.parametrize(
    ("canary", "message"),
    [
        pytest.param('{"first_token_s": 3600}', r"did not generate a token in 0\.4 s", id="silent"),
        pytest.param('{"raise_at": 1}', r"could not generate a token \(the script says so\)", id="raises"),
        pytest.param(
            '{"hang_at": 1}', r"(did not generate a token in|was in one step for more than) 0\.4 s", id="hangs"
        ),
    ],
)
def test_a_worker_that_looks_alive_and_gives_no_token_is_replaced(canary: str, message: str) -> None:
    async def scenario() -> None:
        patience = replace(OFTEN, step_s=0.4)
        async with Supervised(f"scripted:canary={canary}", patience=patience) as world:
            assert re.fullmatch(f"The worker process {message} and was killed", await world.hears("lost"))
            await world.hears("ready", 2)
            assert world.worker.canaries["failed"] == 1

    asyncio.run(asyncio.wait_for(scenario(), SCENARIO_S))
