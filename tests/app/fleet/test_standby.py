"""The standby: which process serves after a restart or a switch, when there is none, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from support.running.fleets import LONG_S, scripted, settings_of, started, until
from support.running.metrics import value
from support.running.processes import lives
from support.running.servers import Server, wait_for

from mlx_server.app.config.settings import ModelSettings
from mlx_server.app.fleet.fleet import Fleet

pytestmark = pytest.mark.model
Tiny = Callable[[str], Path]


def _run(fleet: Fleet, scenario: Callable[[Fleet], Awaitable[None]]) -> None:
    async def within() -> None:
        async with started(fleet):
            await scenario(fleet)
        assert fleet.standby.pid is None

    async def limited() -> None:
        async with asyncio.timeout(LONG_S):
            await within()

    before = {child.pid for child in psutil.Process().children()}
    asyncio.run(limited())
    assert {child.pid for child in psutil.Process().children()} <= before


async def _standby(fleet: Fleet, *, other: int | None = None) -> int:
    await until(lambda: fleet.standby.pid not in (None, other))
    assert fleet.standby.pid is not None
    return fleet.standby.pid


def _tiny(tiny_model: Tiny, name: str = "tiny") -> ModelSettings:
    return ModelSettings(str(tiny_model("llama")), "lm", name)


def test_a_worker_that_died_is_replaced_by_the_standby_and_that_by_another(tiny_model: Tiny) -> None:
    async def scenario(fleet: Fleet) -> None:
        first = await _standby(fleet)
        deployment = fleet.deployments[0]
        os.kill(deployment.pids[0], signal.SIGKILL)
        await until(lambda: deployment.pids == [first] and deployment.ready)
        assert await _standby(fleet, other=first) != first

    _run(Fleet(settings_of(_tiny(tiny_model), standby=True)), scenario)


def test_a_model_that_takes_anothers_place_has_the_standby_as_its_worker(tiny_model: Tiny) -> None:
    async def scenario(fleet: Fleet) -> None:
        standby = await _standby(fleet)
        deployment = await fleet.load("b")
        assert deployment.pids == [standby]
        assert fleet.deployments[0].pids == []

    models = _tiny(tiny_model, "a"), _tiny(tiny_model, "b")
    _run(Fleet(settings_of(*models, standby=True, max_models=1)), scenario)


@pytest.mark.parametrize(
    ("limit_bytes", "standby"), [(1 << 20, True), (None, False)], ids=["no-memory-for-it", "not-wanted"]
)
def test_there_is_none_where_it_is_not_to_be(tiny_model: Tiny, limit_bytes: int | None, standby: bool) -> None:
    async def scenario(fleet: Fleet) -> None:
        await until(lambda: fleet.ready)
        fleet.standby.look()
        assert (fleet.standby.pid, fleet.standby.memory_bytes) == (None, 0)

    model = _tiny(tiny_model)
    fleet = Fleet(settings_of(model, scripted("other"), standby=standby, memory_limit_bytes=limit_bytes))
    _run(fleet, scenario)


def test_it_goes_where_models_have_grown_into_its_memory(tiny_model: Tiny) -> None:
    async def scenario(fleet: Fleet) -> None:
        pid = await _standby(fleet)
        assert fleet.ledger.limit_bytes is not None
        fleet.ledger.measured("tiny", fleet.ledger.limit_bytes - 1)
        await until(lambda: not lives(pid))
        fleet.standby.look()
        assert fleet.standby.pid is None

    _run(Fleet(settings_of(_tiny(tiny_model), standby=True)), scenario)


def test_one_that_dies_by_itself_is_buried_and_not_replaced_at_once(tiny_model: Tiny) -> None:
    async def scenario(fleet: Fleet) -> None:
        pid = await _standby(fleet)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(pid))
        fleet.standby.look()
        assert fleet.standby.pid is None

    _run(Fleet(settings_of(_tiny(tiny_model), standby=True)), scenario)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_it_ends_with_its_server(launch: Callable[..., Server], tiny_model: Tiny, number: signal.Signals) -> None:
    server = launch("--model-path", tiny_model("llama"), "--standby")
    server.wait_until(lambda: len(server.worker_pids()) == 2)
    server.wait_until(lambda: value(server, "standby_memory_bytes") > 1 << 20)
    pids = server.worker_pids()
    server.stop(number)
    wait_for(lambda: not any(map(lives, pids)))
