"""A rank that dies, hangs or refuses ends its group, which starts again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.running.fleets import until
from support.running.processes import lives
from support.running.supervised import Supervised

from mlx_server.schemas.internal.generation import GenerationRequest, Limits, Sampling, TextPrompt
from mlx_server.schemas.internal.hosts import Backend, Host, Hosts
from mlx_server.schemas.internal.messages import Finished

pytestmark = pytest.mark.model

TIME_S = 120.0
HEARTBEAT_S = 3.0
LATE_S = 3.0
"""More than the heartbeat's time that a busy machine may need until the end is told."""

HERE = Host("127.0.0.1", ("127.0.0.1",))


BACKENDS: tuple[Backend, ...] = ("ring", "mpi") if sys.platform == "linux" else ("ring",)


def spread(folder: Path, backend: Backend) -> Supervised:
    """A worker of two ranks."""
    return Supervised(str(folder), "lm", rows=4, hosts=Hosts((HERE, HERE), backend, (), HEARTBEAT_S))


def endless() -> GenerationRequest:
    return GenerationRequest(
        (TextPrompt("On and on"),), 120, sampling=Sampling(temperature=0.0), limits=Limits(ignore_eos=True)
    )


def follower(world: Supervised) -> int:
    """The process of rank 1."""
    assert world.worker.pid is not None
    [rank] = [one for one in psutil.Process(world.worker.pid).children() if "child.rank" in " ".join(one.cmdline())]
    return rank.pid


def descendants(world: Supervised) -> list[int]:
    """The processes that rank 0 has started, and theirs."""
    assert world.worker.pid is not None
    return [one.pid for one in psutil.Process(world.worker.pid).children(recursive=True)]


@pytest.mark.parametrize(
    ("number", "busy"), [(signal.SIGKILL, True), (signal.SIGSTOP, False)], ids=["killed, busy", "stopped, idle"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_group_of_a_lost_rank_starts_again(
    tiny_model: Callable[[str], Path], number: signal.Signals, busy: bool, backend: Backend
) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(TIME_S), spread(tiny_model("llama"), backend) as world:
            ticket = world.queue.submit(endless(), whole=True) if busy else None
            if busy:
                await world.hears("step", 5)
            rank, began = follower(world), time.monotonic()
            os.kill(rank, number)
            why = await world.hears("lost")
            assert time.monotonic() - began < HEARTBEAT_S + LATE_S
            assert why.startswith("rank 1 (127.0.0.1) ")
            await world.hears("ready", 2)
            assert not lives(rank)
            again = ticket or world.queue.submit(endless(), whole=True)
            [finished] = [event for event in await world.answer(again) if isinstance(event, Finished)]
            assert finished.completion_tokens == 120

    asyncio.run(scenario())


@pytest.mark.parametrize("backend", BACKENDS)
def test_ranks_end_with_rank_0(tiny_model: Callable[[str], Path], backend: Backend) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(TIME_S), spread(tiny_model("llama"), backend) as world:
            rank, started = follower(world), descendants(world)
            assert world.worker.pid is not None
            os.kill(world.worker.pid, signal.SIGKILL)
            await world.hears("ready", 2)
            assert not lives(rank)
            await until(lambda: not any(map(lives, started)))
            left = descendants(world)
        await until(lambda: not any(map(lives, left)))

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="Open MPI is installed on Linux only")
def test_group_starts_again_when_mpirun_is_killed(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # killed, mpirun leaves its files and those of shared memory
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")

    async def scenario() -> None:
        async with asyncio.timeout(TIME_S), spread(tiny_model("llama"), "mpi") as world:
            started = descendants(world)
            [mpirun] = [pid for pid in started if psutil.Process(pid).name() == "prterun"]
            os.kill(mpirun, signal.SIGKILL)
            assert await world.hears("lost") == "mpirun died of SIGKILL"
            await world.hears("ready", 2)
            await until(lambda: not any(map(lives, started)))

    asyncio.run(scenario())
