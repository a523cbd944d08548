"""Rank 0 waits until the others have found the model: what stands for ssh says what they would say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.running.fleets import until

from mlx_server.schemas.internal.hosts import Host, Hosts
from mlx_server.schemas.internal.messages import Load
from mlx_server.workers.child.ranks import Ranks, versions
from mlx_server.workers.engine.ranks.orders import Enter, FromRank, Hello, Refused, Resolved, frame
from mlx_server.workers.errors import ModelLoadError

HOSTS = Hosts(tuple(Host(name, ("127.0.0.1",)) for name in ("127.0.0.1", "mac2.example", "mac3.example")), "ring")
LOAD = Load("someone/model", "lm", 1, 512, "/dev/null/nowhere", hosts=HOSTS)
SCENARIO_S = 30.0


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what each host says; what it is told is kept beside it."""
    command = tmp_path / "bin" / "ssh"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\ncd {tmp_path}\nfor last; do host=$each each=$last; done\ncat $host\ncat > $host.told\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    return tmp_path


@asynccontextmanager
async def watched(lost: list[str]) -> AsyncIterator[tuple[Ranks, asyncio.Task[None]]]:
    """The ranks once they have been met, and the task that watches them. No process is left of them: each ends with its
    input."""
    ranks = Ranks(LOAD, lost.append)
    try:
        await ranks.meet()
        watching = asyncio.ensure_future(ranks.watch())
        async with asyncio.timeout(SCENARIO_S):
            yield ranks, watching
        watching.cancel()
    finally:
        for one in ranks._processes:
            assert one._process.stdin is not None
            one._process.stdin.close()
        await until(lambda: all(one._reader.at_eof() for one in ranks._processes))
        for one in ranks._processes:
            with one._process:
                pass


def say(folder: Path, host: str, *messages: FromRank) -> None:
    (folder / host).write_bytes(b"".join(frame(one) for one in (Hello(versions(), 1), *messages)))


def test_ranks_meet_once_all_have_found_the_model(hosts: Path) -> None:
    say(hosts, "mac2.example", Resolved())
    say(hosts, "mac3.example", Resolved())

    async def scenario() -> None:
        lost: list[str] = []
        async with watched(lost) as (ranks, _):
            await asyncio.to_thread(ranks.enter)
            for name in ("mac2.example.told", "mac3.example.told"):
                await until(lambda name=name: (hosts / name).read_bytes().endswith(frame(Enter())))
            assert lost == []

    asyncio.run(scenario())


def test_a_rank_that_finds_no_model_is_named(hosts: Path) -> None:
    say(hosts, "mac2.example", Resolved())
    say(hosts, "mac3.example", Refused("there is no such model"))

    async def scenario() -> None:
        lost: list[str] = []
        async with watched(lost) as (ranks, watching):
            with pytest.raises(ModelLoadError, match=r"^rank 2 \(mac3.example\): there is no such model$"):
                await asyncio.to_thread(ranks.enter)
            await watching
            assert lost == ["rank 2 (mac3.example): there is no such model"]

    asyncio.run(scenario())
