"""Whatever is asked of the same models at once, by whomever: all of it ends, and what is left fits together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field

import pytest
from support.running.fleets import end_of, scripted, settings_of, started, submit, until, worker_pids

from mlx_server.app.catalog.errors import FleetError
from mlx_server.app.deployment.model_state import HAS_WORKERS, ModelState
from mlx_server.app.fleet.fleet import Fleet
from mlx_server.app.fleet.memory_estimate import SCRIPTED_BYTES
from mlx_server.queue.errors import QueueClosed, QueueFull
from mlx_server.queue.ticket import Ticket
from mlx_server.schemas.internal.messages import Failed, Finished
from mlx_server.workers.parent.supervisor import Patience

pytestmark = pytest.mark.anyio
NAMES = ("a", "b", "c", "d")
ACTORS = 8
ACTIONS = 12
SEEDS = range(int(os.environ.get("MLX_SERVER_TEST_SEEDS", "3")))
QUICK = Patience(first_backoff_s=0.05, longest_backoff_s=0.2, exit_s=0.5, stop_s=5.0)
REFUSALS = (FleetError, QueueClosed, QueueFull)
"""What may be answered at once; anything else is a defect."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Actor:
    """Does one thing after the other to models that it picks by chance."""

    fleet: Fleet
    rng: random.Random
    tickets: list[Ticket] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    async def act(self) -> None:
        for _ in range(ACTIONS):
            what = self.rng.choice(("load", "anew", "unload", "force", "delete", "priority", "kill", *("ask",) * 6))
            name = self.rng.choice(NAMES)
            try:
                await getattr(self, what)(name)
                self.done[what] += 1
            except REFUSALS:
                self.done["refused"] += 1
            await asyncio.sleep(self.rng.random() * 0.05)

    async def load(self, name: str) -> None:
        await self.fleet.load(name, priority=self.rng.randint(0, 3))

    async def anew(self, name: str) -> None:
        await self.fleet.load(name, force_reload=True)

    async def unload(self, name: str) -> None:
        await self.fleet.unload(name)

    async def force(self, name: str) -> None:
        await self.fleet.unload(name, force=True)

    async def delete(self, name: str) -> None:
        assert await self.fleet.delete(name) is False, "scripted models have no files"

    async def priority(self, name: str) -> None:
        self.fleet.set_priority(name, self.rng.randint(0, 9))

    async def kill(self, name: str) -> None:
        deployment = self.fleet.find(name)
        for pid in deployment.pids if deployment else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def ask(self, name: str) -> None:
        deployment = await self.fleet.choose(name)
        script = {"tokens": self.rng.randint(1, 10), "interval_s": 0.01}
        ticket = submit(deployment.current, json.dumps(script))
        self.tickets.append(ticket)
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.random() * 0.1)
            deployment.current.queue.cancel(ticket)
        else:
            assert isinstance(await end_of(ticket), Finished | Failed)


@pytest.mark.parametrize("seed", SEEDS)
async def test_everything_ends_and_fits_together(seed: int) -> None:
    rng = random.Random(seed)
    most = rng.choice((1, 2, 3))
    limits = {"memory_limit_bytes": most * SCRIPTED_BYTES} if seed % 2 else {"max_models": most}
    settings = settings_of(*map(scripted, NAMES), patience=QUICK, **limits)
    async with started(Fleet(settings), longest_s=180) as fleet:
        actors = [Actor(fleet, random.Random(rng.random())) for _ in range(ACTORS)]
        await asyncio.gather(*(actor.act() for actor in actors))
        done = sum((actor.done for actor in actors), Counter())
        assert done["ask"] > 0
        assert all(ticket.ended for actor in actors for ticket in actor.tickets)
        await until(lambda: settled(fleet))
        check(fleet, most)
        for name in NAMES:
            deployment = await fleet.load(name)
            assert isinstance(await end_of(submit(deployment)), Finished)
            assert sum(one.state is ModelState.LOADED for one in fleet.deployments) <= most
        check(fleet, most)


def settled(fleet: Fleet) -> bool:
    """Nothing moves any more."""
    still = (ModelState.LOADED, ModelState.UNLOADED, ModelState.FAILED)
    return not fleet.waiting_loads and all(one.state in still and not one.awaited for one in fleet.deployments)


def check(fleet: Fleet, most: int) -> None:
    """Queues are empty, and processes, states and the ledger say the same."""
    for one in fleet.deployments:
        assert (one.queue.live, one.queue.rows_used, one.queue.waiting) == (0, 0, 0), one.name
        assert bool(one.pids) is (one.state in HAS_WORKERS), (one.name, one.state)
    holding = {one.name for one in fleet.deployments if one.state in HAS_WORKERS}
    assert set(fleet.ledger.granted) == holding
    assert sum(fleet.ledger.granted.values()) <= fleet.ledger.limit_bytes
    assert len(holding) <= most
    assert worker_pids() == {pid for one in fleet.deployments for pid in one.pids}
