"""Workers that are reached over a network, whose starts fail in all ways: the machines are taken from here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from support.running.supervised import QUICK, Supervised

from mlx_server.schemas.internal import messages
from mlx_server.schemas.internal.messages import FromWorker, LoadFailed, ModelFacts, Ready
from mlx_server.workers.parent.handle import NoPlace, StartRefused
from mlx_server.workers.parent.starts import Wanted
from mlx_server.workers.parent.supervisor import Patience, StartError, WorkerState, wait_s

SOON_S = 1.0
READY = Ready(ModelFacts(1, None, 10, 0, "fake", "none"))
ROUTE = OSError("no route to host")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30.0):
            await scenario

    asyncio.run(limited())


class Far:
    """A worker of another machine, which is reached after a while and says one thing; it ends unless it is ready."""

    pid = None

    def __init__(self, says: FromWorker | None, after_s: float = 0.0) -> None:
        self._says = says
        self._after_s = after_s
        self._ours, self._theirs = socket.socketpair()

    @property
    def lives(self) -> bool:
        return self._theirs.fileno() >= 0

    async def connect(self, channel: asyncio.Protocol) -> None:
        await asyncio.sleep(self._after_s)
        self._ours.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: channel, sock=self._ours)
        loop.add_reader(self._theirs, self._hear)

    def _hear(self) -> None:
        self._theirs.recv(1 << 16)
        says, self._says = self._says, None
        if says is not None:
            body = messages.encode(says)
            self._theirs.sendall(len(body).to_bytes(4, "big") + body)
        if says is not READY:
            self.kill()

    def kill(self) -> None:
        if self.lives:
            asyncio.get_running_loop().remove_reader(self._theirs)
            self._theirs.close()

    async def ended(self, patience_s: float) -> None:
        self.kill()
        self._ours.close()

    def obituary(self) -> str:
        return "The worker process is gone"


class Starting:
    """Starts them, each with the next of what is to happen."""

    def __init__(self, *happens: Far | OSError, distant: bool = True) -> None:
        self.distant = distant
        self._happens = list(happens)

    async def start(self, wanted: Wanted, model_type: str) -> Far:
        found = self._happens.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    async def release(self) -> None:
        pass


@pytest.mark.parametrize(
    "before",
    [
        lambda: [ROUTE],
        lambda: [Far(None)],
        lambda: [NoPlace("nobody knows")] * (QUICK.deaths_in_a_row + 2),
    ],
    ids=["not started", "lost while it loads", "no place for long"],
)
def test_what_fails_on_the_way_to_another_machine_is_tried_again(before: Callable[[], list[Far | OSError]]) -> None:
    async def scenario() -> None:
        failures = before()
        patience = replace(QUICK, longest_backoff_s=0.02)
        async with Supervised(starts=Starting(*failures, Far(READY)), patience=patience) as world:
            assert world.worker.state is WorkerState.READY
            assert len(world.all_told("lost")) == len(failures)

    run(scenario())


@pytest.mark.parametrize(
    ("happens", "distant", "message"),
    [
        (lambda: [StartRefused("other versions")], True, "The worker process could not be started: other versions"),
        (lambda: [Far(LoadFailed("no such model"))], True, "no such model"),
        (lambda: [ROUTE] * QUICK.deaths_in_a_row, True, "The worker process could not be started: no route to host"),
        (lambda: [OSError()], False, "The worker process could not be started: OSError"),
    ],
    ids=["refused", "the model's word", "again and again", "on this machine"],
)
def test_what_no_other_start_would_mend_is_told(
    happens: Callable[[], list[Far | OSError]], distant: bool, message: str
) -> None:
    async def scenario() -> None:
        starts = Starting(*happens(), distant=distant)
        async with Supervised(starts=starts, wait_ready=False) as world:
            with pytest.raises(StartError) as caught:
                await world.running
            assert str(caught.value) == message
            assert world.worker.state is WorkerState.FAILED

    run(scenario())


def test_waits_for_a_place_double_to_a_limit_however_often() -> None:
    waits = [wait_s(failures, Patience()) for failures in (1, 2, 3, 7, 8, 9, 100_000)]
    assert waits == [0.0, 0.5, 1.0, 16.0, 30.0, 30.0, 30.0]


def test_the_time_that_a_connection_takes_is_no_silence() -> None:
    async def scenario() -> None:
        patience = replace(QUICK, heartbeat_s=0.3, check_s=0.01)
        async with Supervised(starts=Starting(Far(READY, after_s=0.4)), patience=patience) as world:
            assert world.all_told("lost") == []
            assert world.worker.silence_s is not None
            assert world.worker.silence_s < 0.3

    run(scenario())


def test_stop_does_not_wait_for_a_connection() -> None:
    async def scenario() -> None:
        async with Supervised(starts=Starting(Far(READY, after_s=3600.0)), wait_ready=False) as world:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            async with asyncio.timeout(SOON_S):
                await world.worker.stop()
                await world.running
            assert world.worker.state is WorkerState.STOPPED

    run(scenario())
